// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// The first page: a token, once; from then on a cookie that no script can read.
import * as api from "./api.js";
import { h } from "./dom.js";

// done(principal, token) after a good token. why: said above the field, or "".
export function signIn(why, done) {
  const error = h("p", { class: "error", id: "token-error", role: "alert" });
  const field = h("input", { type: "password", id: "token", name: "token", autocomplete: "current-password", spellcheck: "false",
    required: true, "aria-describedby": "token-error token-help" });
  const button = h("button", { class: "primary", type: "submit" }, "Sign in");
  const refuse = (words) => {
    error.textContent = words;
    field.setAttribute("aria-invalid", "true");
    field.focus();
  };
  const submit = async (event) => {
    event.preventDefault();
    const token = field.value.trim();
    if (token === "") return refuse("A token is needed.");
    if (!/^[\x21-\x7e]{1,128}$/.test(token)) return refuse("This cannot be a token: it has spaces or letters that no token has.");
    button.disabled = true;
    try {
      const who = await api.post("session", { token });
      field.value = "";
      done(who, token);
    } catch (refused) {
      refuse(refused.sentence ?? refused.message);
    } finally {
      button.disabled = false;
    }
  };
  const element = h("main", { class: "signin" },
    h("form", { onsubmit: submit, novalidate: true },
      h("h1", { class: "brand" }, "Sluice"),
      why && h("p", { class: "note" }, why),
      h("label", { for: "token" }, "Token"),
      field,
      error,
      h("p", { class: "help", id: "token-help" }, "The first one stands in ", h("code", {}, "admin.token"),
        " in the storage root (/var/lib/sluice, if nobody chose another), which only root can read. It stays in this page's memory and nowhere else in the browser."),
      button));
  setTimeout(() => field.focus());
  return element;
}
