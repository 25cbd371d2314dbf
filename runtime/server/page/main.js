// The frame: the list of models, which of them is shown, the key, the colours, and the server's state every two seconds.

import { ask, Refused, storedKey, storeKey } from "./api.js";
import { element } from "./dom.js";
import { History } from "./history.js";
import { ModelPanel } from "./model_panel.js";

const SECONDS = 2;
const THEMES = ["system", "light", "dark"];
const THEME = "netspec.theme";

const byId = (id) => document.getElementById(id);
const identity = (model) => `#/${encodeURIComponent(model.name)}/${model.version}`;
const histories = new Map();
let panel = null;
let status = null;

function showTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  byId("theme").textContent = `Colours: ${theme}`;
}

function nextTheme() {
  const theme = THEMES[(THEMES.indexOf(localStorage.getItem(THEME) ?? "system") + 1) % THEMES.length];
  localStorage.setItem(THEME, theme);
  showTheme(theme);
}

function showKeyForm(shown) {
  byId("key-form").hidden = !shown;
  byId("key-switch").setAttribute("aria-expanded", String(shown));
  if (shown) byId("key").focus();
}

function useKey(event) {
  event.preventDefault();
  storeKey(byId("key").value);
  byId("key").value = "";
  showKeyForm(false);
  byId("key-switch").focus();
  refresh();
}

function stateOf(model) {
  return element("span", { class: "state", "data-state": model.state }, model.state.toLowerCase());
}

function link(model) {
  const here = location.hash === identity(model);
  const name = model.version ? `${model.name}, version ${model.version}` : model.name;
  return element("a", { href: identity(model), "aria-current": here ? "page" : null }, name, element("small", {}, stateOf(model)));
}

/** The list is rebuilt only when it says something else, so that the focus stays where it is. */
function showModels() {
  const said = JSON.stringify([location.hash, status.models.map((model) => [model.name, model.version, model.state])]);
  const list = byId("models");
  if (list.dataset.said === said) return;
  list.dataset.said = said;
  const focused = document.activeElement?.getAttribute("href");
  list.replaceChildren(...status.models.map((model) => element("li", {}, link(model))));
  if (!status.models.length) list.append(element("li", { class: "quiet" }, "no models"));
  for (const anchor of list.querySelectorAll("a")) if (anchor.getAttribute("href") === focused) anchor.focus();
  list.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

function showPanel() {
  if (!location.hash.startsWith("#/") && status.models.length) {
    history.replaceState(null, "", identity(status.models[0]));
    showModels();
  }
  const model = status.models.find((one) => identity(one) === location.hash);
  if (!model) {
    showNothing();
    return;
  }
  if (panel?.shows(model, status.admin)) {
    panel.update(histories.get(identity(model)));
    return;
  }
  panel = new ModelPanel(model, status.admin, refresh);
  byId("panel").replaceChildren(panel.node);
  panel.update(histories.get(identity(model)));
}

/** What stands in the place of a model that isn't there, or no longer. */
function showNothing() {
  const asked = location.hash.split("/").slice(1).map(readable);
  const text = asked.length ? `There is no model ${asked.join(", version ")} here.` : "There are no models here.";
  panel = null;
  if (byId("panel").textContent !== text) byId("panel").replaceChildren(element("p", { class: "error", role: "alert" }, text));
}

function readable(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // typed by hand
  }
}

function record() {
  for (const model of status.models) {
    const key = identity(model);
    if (!histories.has(key)) histories.set(key, new History());
    histories.get(key).add(status.seconds, model.statistics);
  }
}

async function refresh() {
  try {
    status = await (await ask("v1/status")).json();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    byId("server").textContent = error.message;
    if (error.status === 401) byId("key-switch").hidden = false;
    if (error.status === 401 && byId("key-form").hidden && !storedKey()) showKeyForm(true);
    return;
  }
  byId("key-switch").hidden = !status.keys;
  byId("server").textContent = `${status.ready ? "ready" : "stopping"} · version ${status.version}`;
  record();
  showModels();
  showPanel();
}

async function watch() {
  if (!document.hidden) await refresh();
  setTimeout(watch, SECONDS * 1000);
}

showTheme(localStorage.getItem(THEME) ?? "system");
byId("theme").addEventListener("click", nextTheme);
byId("key-switch").addEventListener("click", () => showKeyForm(byId("key-form").hidden));
byId("key-form").addEventListener("submit", useKey);
byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says which model is shown
  byId("panel").focus();
});
addEventListener("hashchange", () => {
  if (!status) return;
  showModels();
  showPanel();
  byId("panel").focus();
});
watch();
