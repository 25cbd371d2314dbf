"""`netspec completion`."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

VARIABLE = "_NETSPEC_COMPLETE"


@click.command(epilog='Example: netspec completion bash  # and in ~/.bashrc: eval "$(netspec completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script with which SHELL completes netspec's commands, options, specs and settings.

    \b
    bash  eval "$(netspec completion bash)"       in ~/.bashrc
    zsh   eval "$(netspec completion zsh)"        in ~/.zshrc, after compinit
    fish  netspec completion fish | source        in ~/.config/fish/config.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    # the class's own `source` asks which bash is on the path; the script may be for another
    click.echo(ShellComplete.source(found(ctx.find_root().command, {}, "netspec", VARIABLE)), nl=False)
