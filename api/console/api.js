// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// The native API over fetch. All URLs are relative to the page, so a proxy's prefix is no matter. The
// sign-in is a cookie that scripts cannot see.

// What the server refused, in its own words.
export class Refusal extends Error {
  constructor(status, problem) {
    super(problem.detail ?? problem.title ?? `the server answered ${status}`);
    this.status = status;
    this.pointer = problem.pointer ?? null;
  }

  // "/limits/packets" as "limits.packets"; null where it is about no field.
  get field() {
    return this.pointer === null ? null : this.pointer.slice(1).replaceAll("/", ".");
  }

  // The sentence without the name of the field, for showing it there.
  get sentence() {
    const head = `${this.field}: `;
    return this.field !== null && this.message.startsWith(head) ? this.message.slice(head.length) : this.message;
  }
}

export class Unreachable extends Error {}

export const at = (path) => new URL(`api/v1/${path}`, document.baseURI);
export const socketAt = (path) => {
  const url = at(path);
  url.protocol = url.protocol.replace("http", "ws");
  return url;
};

let signedOut = () => {};
export const onSignedOut = (call) => (signedOut = call);

export async function request(method, path, body, options = {}) {
  const head = { method, credentials: "same-origin", cache: "no-store", ...options };
  if (body !== undefined) {
    head.body = JSON.stringify(body);
    head.headers = { "Content-Type": "application/json" };
  }
  let answer;
  try {
    answer = await fetch(at(path), head);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable("The daemon does not answer.");
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  if ((answer.status === 401 || answer.status === 429) && path !== "session") signedOut();
  throw new Refusal(answer.status, problem);
}

const json = async (...asked) => {
  const answer = await request(...asked);
  return answer.status === 204 ? null : answer.json();
};

export const get = (path, options) => json("GET", path, undefined, options);
export const post = (path, body, options) => json("POST", path, body, options);
export const patch = (path, body) => json("PATCH", path, body);
export const remove = (path, body) => json("DELETE", path, body);
