// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// What can be done with a capture: stop, change, delete, download. Used by the table and by the
// capture's own page.
import * as api from "./api.js";
import { ask, h, say, toast } from "./dom.js";
import { bytes, percent } from "./format.js";
import { forget, learn } from "./store.js";

const IN_PAGE_MAX = 256e6; // larger files the browser fetches by itself

export const nameOf = (capture) => capture.name || `capture ${capture.id.slice(0, 8)}`;

// The form comes when it is asked for: most who look never start anything.
export async function start() {
  const form = await import("./start.js").catch(() => null);
  if (form === null) toast("The daemon does not answer.", true);
  else await form.startDialog();
}

export async function stop(capture) {
  try {
    const now = await api.post(`captures/${capture.id}/stop`);
    learn(now);
    say(`${nameOf(capture)} is stopped`);
  } catch (error) {
    toast(`Not stopped: ${error.message}`, true);
  }
}

export async function remove(capture) {
  const words = `${nameOf(capture)} and its ${bytes(capture.size_bytes)} are removed for good.`;
  if (!(await ask("Delete this capture?", capture.state === "running" ? `It is running, and is stopped first. ${words}` : words, "Delete"))) return false;
  try {
    await api.remove(`captures/${capture.id}`);
    forget(capture.id);
    // What had the focus is gone with it.
    document.getElementById("main")?.focus({ preventScroll: true });
    say(`${nameOf(capture)} is deleted`);
    return true;
  } catch (error) {
    toast(`Not deleted: ${error.message}`, true);
    return false;
  }
}

// Name and notes.
export function edit(capture) {
  const name = h("input", { id: "edit-name", value: capture.name, maxlength: "255" });
  const notes = h("textarea", { id: "edit-notes", rows: "6", maxlength: "4095" });
  notes.value = capture.notes;
  const error = h("p", { class: "error", role: "alert" });
  const dialog = h("dialog", { "aria-labelledby": "edit-title", onclose: () => dialog.remove() },
    h("form", { novalidate: true, onsubmit: async (event) => {
      event.preventDefault();
      try {
        learn(await api.patch(`captures/${capture.id}`, { name: name.value, notes: notes.value }));
        dialog.close();
      } catch (refused) {
        error.textContent = refused.message;
      }
    } },
      h("h2", { id: "edit-title" }, "Name and notes"),
      h("label", { for: "edit-name" }, "Name"), name,
      h("label", { for: "edit-notes" }, "Notes"), notes,
      error,
      h("div", { class: "buttons" },
        h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
        h("button", { type: "submit", class: "primary" }, "Save"))));
  document.body.append(dialog);
  dialog.showModal();
}

const fileName = (capture, format) =>
  `${(capture.name || capture.id).replace(/[^\p{L}\p{N}._-]+/gu, "_").slice(0, 80)}.${format}`;

const save = (url, name) => {
  const link = h("a", { href: url, download: name, hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
};

// Where the bytes go: a file that the user picks, memory for small ones, or the browser's own download.
async function targetOf(capture, name) {
  if (globalThis.showSaveFilePicker && capture.size_bytes > IN_PAGE_MAX) {
    const stream = await (await showSaveFilePicker({ suggestedName: name })).createWritable();
    return { write: (chunk) => stream.write(chunk), close: () => stream.close(), abort: () => stream.abort() };
  }
  if (capture.size_bytes > IN_PAGE_MAX) return null;
  const chunks = [];
  return {
    write: (chunk) => chunks.push(chunk),
    close: () => {
      const url = URL.createObjectURL(new Blob(chunks, { type: "application/octet-stream" }));
      save(url, name);
      setTimeout(() => URL.revokeObjectURL(url), 60000);
    },
    abort: () => {},
  };
}

// With progress and a way to cancel it.
export async function download(capture, format, partial) {
  const query = `captures/${capture.id}/download?format=${format}${partial ? "&partial=1" : ""}`;
  const name = fileName(capture, format);
  let target;
  try {
    target = await targetOf(capture, name);
  } catch {
    return; // no file was picked
  }
  if (target === null) {
    save(api.at(query), name);
    return;
  }
  const cancel = new AbortController();
  const bar = h("progress", { max: "1", "aria-label": `Download of ${name}` });
  const words = h("span", {}, name);
  const node = h("div", { class: "toast download", role: "status" }, words, bar,
    h("button", { type: "button", class: "quiet", onclick: () => cancel.abort() }, "Cancel"));
  document.body.append(node);
  try {
    const answer = await api.request("GET", query, undefined, { signal: cancel.signal });
    const total = Number(answer.headers.get("Content-Length")) || capture.size_bytes;
    let got = 0;
    const reader = answer.body.getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      await target.write(part.value);
      got += part.value.length;
      bar.value = Math.min(1, got / total);
      words.textContent = `${name}: ${percent(got, total)} of ${bytes(total)}`;
    }
    await target.close();
    say(`${name} is downloaded`);
  } catch (error) {
    target.abort();
    if (error.name !== "AbortError") toast(`Not downloaded: ${error.message}`, true);
  }
  node.remove();
}
