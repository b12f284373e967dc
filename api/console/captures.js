// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// All captures as a table.
import * as actions from "./actions.js";
import { h, keyed, text, toast, toggle } from "./dom.js";
import { bytes, count, duration, percent, pps, seconds, when } from "./format.js";
import { closed, dropped, hasFile, listMore, may, onChange, relist, sorted, store, whole } from "./store.js";

// How far a capture is towards each of its limits.
export function progressOf(capture) {
  const { limits, ledger } = capture;
  const rows = [];
  if (limits.packets) rows.push(["packets", ledger.accepted, limits.packets, count(limits.packets)]);
  if (limits.seconds) rows.push(["time", seconds(capture.started_at, capture.ended_at), limits.seconds, duration(limits.seconds)]);
  if (limits.file_bytes) rows.push(["file", capture.size_bytes, limits.file_bytes, bytes(limits.file_bytes)]);
  if (limits.bytes) rows.push(["bytes", capture.size_bytes, limits.bytes, `${bytes(limits.bytes)} captured`]);
  return rows.map(([name, now, limit, words]) => ({ name, share: Math.min(1, now / limit), words: `${percent(now, limit)} of ${words}` }));
}

export function progressMeters(capture) {
  const rows = progressOf(capture);
  if (rows.length === 0) return h("span", { class: "note" }, closed(capture) ? "–" : "until stopped");
  return h("div", { class: "limits" }, rows.map(({ name, share, words }) => {
    const bar = h("i", {});
    bar.style.width = `${share * 100}%`;
    return h("div", { class: "limit", title: `${name}: ${words}` },
      h("div", { class: "meter", role: "progressbar", "aria-label": `${name} limit`, "aria-valuenow": Math.round(share * 100), "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuetext": words }, bar),
      h("small", {}, words));
  }));
}

// What there is to say beside the state: why it ended, how far its upload is.
const reasonOf = ({ state, reason, upload }) =>
  state === "uploading" ? uploadShort(upload) : reason && reason !== "stopped" ? reason.replaceAll("_", " ") : "";
const uploadShort = ({ state, bytes: sent, total_bytes, attempts }) =>
  state === "waiting" && attempts > 0 ? "tried again later" : total_bytes > 0 ? percent(sent, total_bytes) : "";

export const stateWords = (capture) => [capture.state, reasonOf(capture)].filter(Boolean).join(", ");

function matches(capture, state, words) {
  if (state === "running" && closed(capture)) return false;
  if (state === "finished" && !closed(capture)) return false;
  const line = `${capture.name} ${capture.filter} ${capture.owner} ${capture.notes} ${capture.ports.join(" ")} ${capture.id} ${capture.state} ${capture.dialect}`.toLowerCase();
  return words.every((word) => line.includes(word));
}

class Row {
  constructor() {
    this.pill = h("span", { class: "pill" });
    this.reason = h("small", {});
    this.name = h("a", { class: "clamped", dir: "auto" });
    this.notes = h("small", { class: "notes", dir: "auto" });
    this.filter = h("code", {});
    this.ports = h("small", {});
    this.rate = h("td", { class: "n", "data-label": "Rate" });
    this.packets = h("td", { class: "n", "data-label": "Packets" });
    this.size = h("td", { class: "n", "data-label": "Bytes" });
    this.drops = h("td", { class: "n", "data-label": "Drops" });
    this.progress = h("td", { "data-label": "Limits" });
    this.who = h("td", { "data-label": "Who" });
    this.since = h("td", { class: "n", "data-label": "Since" });
    this.stop = h("button", { type: "button", onclick: () => { this.stop.disabled = true; actions.stop(this.capture); } }, "Stop");
    this.load = h("button", { type: "button", onclick: () => actions.download(this.capture, "pcapng", false) }, "Download");
    this.delete = h("button", { type: "button", class: "quiet", onclick: () => actions.remove(this.capture) }, "Delete");
    this.element = h("tr", {},
      h("td", { "data-label": "State" }, this.pill, this.reason),
      h("th", { scope: "row", "data-label": "Name" }, this.name, this.notes),
      h("td", { class: "filter", "data-label": "Filter" }, this.filter, this.ports),
      this.rate, this.packets, this.size, this.drops, this.progress, this.who, this.since,
      h("td", { class: "do" }, may("operator") && this.stop, this.load, may("operator") && this.delete));
  }

  show(capture) {
    const over = closed(capture);
    if (over && capture === this.capture) return;
    const rate = store.rates.get(capture.id);
    const lost = dropped(capture.ledger);
    this.capture = capture;
    this.pill.className = `pill ${capture.state}`;
    text(this.pill, capture.state);
    text(this.reason, reasonOf(capture));
    text(this.name, actions.nameOf(capture));
    this.name.href = `#/captures/${capture.id}`;
    text(this.notes, capture.notes.split("\n")[0].slice(0, 80));
    text(this.filter, capture.filter || "everything");
    toggle(this.filter, "none", capture.filter === "");
    text(this.ports, capture.ports.join(", "));
    text(this.rate, !over && rate ? pps(rate.packets) : "–");
    text(this.packets, count(capture.ledger.written));
    text(this.size, bytes(capture.size_bytes));
    text(this.drops, count(lost));
    toggle(this.drops, "bad", lost > 0);
    const key = over ? `${capture.id} over` : JSON.stringify(progressOf(capture));
    if (key !== this.progressKey) this.progress.replaceChildren(progressMeters(capture));
    this.progressKey = key;
    text(this.who, capture.dialect === "native" ? capture.owner : `${capture.owner} (${capture.dialect})`);
    text(this.since, when(capture.started_at ?? capture.created_at));
    this.stop.hidden = over || ["stopping", "converting", "uploading"].includes(capture.state);
    if (!this.stop.hidden && !this.capture.stopping) this.stop.disabled = false;
    this.load.hidden = !whole(capture) || !hasFile(capture);
    for (const [button, verb] of [[this.stop, "Stop"], [this.load, "Download"], [this.delete, "Delete"]])
      button.setAttribute("aria-label", `${verb} ${actions.nameOf(capture)}`);
  }
}

const CHUNK = 40; // rows made at a time, so that hundreds do not hold up the page
const RELIST_MS = 10000; // what began and ended between two looks of the status

export function capturesView() {
  const body = h("tbody", {});
  let made = CHUNK;
  let frame = 0;
  const rowsShow = keyed(body, (capture) => capture.id, () => new Row());
  const state = h("select", { id: "of-state", onchange: () => update() },
    [["all", "All"], ["running", "Running"], ["finished", "Finished"]].map(([value, name]) => h("option", { value }, name)));
  const words = h("input", { type: "search", id: "of-words", placeholder: "name, filter, owner …", oninput: () => update() });
  const more = h("button", { type: "button", hidden: true, onclick: () => listMore().catch((error) => toast(error.message, true)) }, "Show older captures");
  const nothing = h("div", { class: "empty", hidden: true });
  const table = h("table", { class: "captures" },
    h("caption", { class: "unseen" }, "Captures, newest first"),
    h("thead", {}, h("tr", {}, ["State", "Name", "Filter", "Rate", "Packets", "Bytes", "Drops", "Limits", "Who", "Since", "Actions"].map((name, i) =>
      h("th", { scope: "col", class: [3, 4, 5, 6, 9].includes(i) ? "n" : "" }, i === 10 ? h("span", { class: "unseen" }, name) : name)))),
    body);

  const update = () => {
    const asked = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = sorted().filter((capture) => matches(capture, state.value, asked));
    rowsShow(shown.slice(0, made));
    if (shown.length > made) {
      made += CHUNK;
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(update);
    }
    more.hidden = store.more === null;
    table.hidden = shown.length === 0;
    nothing.hidden = shown.length > 0 || !store.listed;
    if (!nothing.hidden)
      nothing.replaceChildren(h("p", {}, store.captures.size > 0 ? "No capture is like that." : may("operator")
        ? "There is no capture yet. Start one: without a filter and with a limit of time it shows what is on the wire."
        : "There is no capture yet."));
  };
  const stop = onChange(update);
  const element = h("div", { class: "view" },
    h("div", { class: "bar" },
      h("h1", {}, "Captures"),
      h("label", { for: "of-state", class: "unseen" }, "State"), state,
      h("label", { for: "of-words", class: "unseen" }, "Search"), words,
      h("span", { class: "spring" }),
      may("operator") && h("button", { type: "button", class: "primary", onclick: () => actions.start() }, "Start a capture")),
    h("section", { class: "panel flush" }, table, nothing),
    more);
  const timer = setInterval(() => document.hidden || relist(), RELIST_MS);
  update();
  if (store.listed) relist();
  return {
    element,
    close() {
      clearInterval(timer);
      cancelAnimationFrame(frame);
      stop();
    },
  };
}
