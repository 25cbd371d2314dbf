// Requests to the server that the page came from, with the API key if there is one.

const KEY = "netspec.key";

export const storedKey = () => sessionStorage.getItem(KEY) ?? "";
export const storeKey = (key) => (key ? sessionStorage.setItem(KEY, key) : sessionStorage.removeItem(KEY));

/** The server's own words on why a request got no answer, and the status; 0 where the server could not be reached. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** The response to a request, if it succeeded; else it throws `Refused`. */
export async function ask(path, options = {}) {
  const key = storedKey();
  const headers = { ...options.headers, ...(key ? { "X-API-Key": key } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Refused("the server can't be reached", 0);
  }
  if (!response.ok) throw new Refused(await reason(response), response.status);
  return response;
}

async function reason(response) {
  try {
    return (await response.json()).error;
  } catch {
    return `${response.status} ${response.statusText}`;
  }
}

export const modelPath = (model) => `v2/models/${encodeURIComponent(model.name)}/versions/${model.version}`;
export const predictPath = (model) => `v1/predict/${encodeURIComponent(model.name)}/versions/${model.version}`;
export const repositoryPath = (model, act) => `v2/repository/models/${encodeURIComponent(model.name)}/${act}`;
