// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// The frame: sign in, header, and the view that the address names: #/ , #/captures, #/captures/ID.
import * as api from "./api.js";
import { captureView } from "./capture.js";
import { capturesView } from "./captures.js";
import { h, say, text, toggle } from "./dom.js";
import { duration } from "./format.js";
import { overviewView } from "./overview.js";
import { signIn } from "./signin.js";
import * as stores from "./store.js";
import * as stream from "./stream.js";

const app = document.getElementById("app");
const UUID = /^#\/captures\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/;

let view = null;
let frame = null;
let secret = null; // of the token, in this page's memory only: a restart of the daemon forgets sign-ins
let returning = false;

const viewOf = (hash) => {
  const id = UUID.exec(hash)?.[1];
  if (id) return { title: "Capture", page: "captures", make: () => captureView(id) };
  if (hash === "#/captures") return { title: "Captures", page: "captures", make: capturesView };
  return { title: "Overview", page: "overview", make: overviewView };
};

function show() {
  if (frame === null) return;
  const wanted = viewOf(location.hash);
  view?.close();
  view = wanted.make();
  document.title = `${wanted.title} · Sluice`;
  for (const link of frame.links) {
    if (link.dataset.page === wanted.page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  frame.main.replaceChildren(view.element);
  frame.main.focus({ preventScroll: true });
  scrollTo(0, 0);
}

function connectionShow() {
  if (frame === null) return;
  const lost = stream.state === "lost";
  const words = { live: "live", connecting: "connecting", lost: "no connection", off: "off" }[stream.state];
  text(frame.link, words);
  frame.dot.className = `dot ${stream.state}`;
  toggle(document.body, "stale", lost);
  frame.banner.hidden = !lost;
  if (lost) text(frame.banner.lastChild, `Since ${duration((Date.now() - stream.lostAt) / 1000)}.`);
}

function frameMake(who) {
  const page = (name, hash, title) => {
    const link = h("a", { href: hash }, title);
    link.dataset.page = name;
    return link;
  };
  const links = [page("overview", "#/", "Overview"), page("captures", "#/captures", "Captures")];
  const dot = h("i", { class: "dot" });
  const link = h("span", { class: "link" });
  const main = h("main", { id: "main", tabindex: "-1" });
  // Said once; how long it lasts is for those who look.
  const banner = h("div", { class: "banner", hidden: true },
    h("span", { role: "alert" }, "No connection. What is shown is what was known; it goes on by itself."), " ", h("span", { "aria-hidden": "true" }));
  const scope = who.account === "*" ? "" : ` · ${who.account}`;
  const element = h("div", { class: "frame" },
    h("a", { class: "skip", href: "#main", onclick: (event) => { event.preventDefault(); main.focus(); } }, "To the content"),
    h("header", { class: "top" },
      h("a", { class: "brand", href: "#/" }, "Sluice"),
      h("nav", { "aria-label": "Pages" }, links),
      h("span", { class: "spring" }),
      h("span", { class: "connection", role: "status" }, dot, link),
      h("span", { class: "who", title: `role ${who.role}, account ${who.account}` }, `${who.name} (${who.role}${scope})`),
      h("button", { type: "button", class: "quiet", onclick: signOut }, "Sign out")),
    banner,
    main);
  return { element, links, dot, link, main, banner };
}

async function signOut() {
  await api.remove("session").catch(() => {});
  leave("");
}

function leave(why) {
  view?.close();
  view = null;
  frame = null;
  secret = null;
  stores.end();
  document.body.classList.remove("stale");
  document.title = "Sluice";
  app.replaceChildren(signIn(why, enter));
}

function enter(who, token = null) {
  secret = token;
  frame = frameMake(who);
  app.replaceChildren(frame.element);
  stores.begin(who);
  connectionShow();
  show();
}

// Once more with the same token, if this page knows it.
async function comeBack() {
  if (frame === null || returning) return;
  returning = true;
  try {
    if (secret === null) throw new api.Refusal(401, {});
    await api.post("session", { token: secret });
    stores.relist();
  } catch (error) {
    // What is not about the token is tried again with the next reconnection.
    if (error.status === 401) leave("The sign-in has ended; please sign in again.");
  } finally {
    returning = false;
  }
}

api.onSignedOut(comeBack);
stream.onRefused(() => api.get("session").catch((error) => [401, 429].includes(error.status) && comeBack()));
stream.onState((state, before) => {
  connectionShow();
  if (state === "live" && before === "lost") say("Connection is back");
});
setInterval(connectionShow, 1000);
addEventListener("hashchange", show);

async function boot() {
  try {
    enter(await api.get("session"));
  } catch (error) {
    if (error instanceof api.Unreachable) setTimeout(boot, 1000);
    if (frame === null) app.replaceChildren(signIn(error instanceof api.Refusal ? "" : error.message, enter));
  }
}
boot();
