// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// The form that starts a capture. What can be judged here is judged before it is sent; the filter is
// compiled by the daemon while it is typed; what the daemon refuses stands at the field it is about.
import * as api from "./api.js";
import { h, say, text } from "./dom.js";
import { count, parseCount, parseSeconds } from "./format.js";
import { learn, store } from "./store.js";

const CHECK_AFTER_MS = 250;
const MOST = Number.MAX_SAFE_INTEGER;

const PRESETS = [
  ["A look", "60 seconds of everything", { seconds: "60" }],
  ["10,000 packets", "the next ones", { packets: "10000" }],
  ["Headers", "96 bytes of each packet, 5 minutes", { snaplen: "96", seconds: "5 min" }],
  ["1 in 100 flows", "whole flows, 5 minutes", { mode: "flow", n: "100", seconds: "5 min" }],
  ["DNS", "names that are asked for, 10 minutes", { filter: "port 53", seconds: "10 min" }],
  ["TCP trouble", "resets and SYNs", { filter: "tcp[tcpflags] & (tcp-syn|tcp-rst) != 0", seconds: "10 min" }],
  ["No file", "count only", { output: "none", seconds: "60" }],
];

const bytesOf = (words) => new TextEncoder().encode(words).length;

// A field: label, control, help, and its error. name is the API's.
function field(name, label, control, help, judge) {
  const id = `start-${name.replaceAll(".", "-")}`;
  const error = h("p", { class: "error", id: `${id}-error`, role: "alert" });
  control.id = id;
  control.setAttribute("aria-describedby", `${id}-error${help ? ` ${id}-help` : ""}`);
  const own = {
    name, control, judge,
    element: h("div", { class: "field" }, h("label", { for: id }, label), control, error, help && h("p", { class: "help", id: `${id}-help` }, help)),
    refuse(words) {
      text(error, words);
      if (words) control.closest("details")?.setAttribute("open", "");
      if (words) control.setAttribute("aria-invalid", "true");
      else control.removeAttribute("aria-invalid");
    },
  };
  control.addEventListener("input", () => own.refuse(judge?.(control.value) ?? ""));
  return own;
}

const input = (properties) => h("input", { autocomplete: "off", spellcheck: "false", ...properties });
const number = (parse, most, hint, none = "no limit") => (words) => {
  const value = parse(words);
  if (Number.isNaN(value)) return `"${words.trim()}" is no number; write ${hint}, or nothing for ${none}.`;
  return value > most ? `"${words.trim()}" is too much: at most ${count(most)} is allowed.` : "";
};

function judgePrefix(words) {
  if (bytesOf(words) > 512) return `${bytesOf(words)} bytes are too long; at most 512 are allowed.`;
  const bad = words !== "" && words.split("/").find((part) => ["", ".", ".."].includes(part));
  return typeof bad === "string" ? `"${words}" is no prefix: parts between slashes, as evidence/case17, none of them empty, "." or "..".` : "";
}

// What the daemon would not even take for an address; which ones may be sent to it says itself.
const judgeAddress = (words) =>
  /^(\d{1,3}(\.\d{1,3}){3}|[0-9a-f]*:[0-9a-f:.]+)$/i.test(words.trim()) ? "" : `"${words.trim()}" is no address; write one as 10.1.2.3 or fd00::1.`;

// The expression with the wrong word marked under it, and the message below that word.
function filterField() {
  const area = h("textarea", { rows: "2", autocomplete: "off", spellcheck: "false", class: "mono", placeholder: "everything; or: tcp port 443 and not host 10.0.0.1" });
  const under = h("div", { class: "under mono", "aria-hidden": "true" });
  const own = field("filter", "Filter", h("div", {}), "A pcap expression, as tcpdump takes it.");
  const holder = own.element.children[1];
  const id = holder.id;
  holder.replaceWith(h("div", { class: "expression" }, under, area));
  area.id = id;
  area.setAttribute("aria-describedby", holder.getAttribute("aria-describedby"));
  own.control = area;
  const error = own.element.querySelector(".error");
  const verdict = h("p", { class: "fine" });
  error.after(verdict);
  let timer = 0;
  let asked = null;

  own.refuse = (words, offset = null, length = 0) => {
    text(error, words);
    if (words) area.setAttribute("aria-invalid", "true");
    else area.removeAttribute("aria-invalid");
    error.style.marginLeft = "0";
    text(verdict, "");
    if (!words || offset === null) {
      under.replaceChildren();
      return;
    }
    // The daemon counts bytes.
    const all = new TextEncoder().encode(area.value);
    const part = (from, to) => new TextDecoder().decode(all.subarray(from, to));
    const mark = h("mark", {}, part(offset, offset + length) || " ");
    under.replaceChildren(part(0, offset), mark, part(offset + length));
    under.scrollTop = area.scrollTop;
    const room = under.clientWidth - 160;
    error.style.marginLeft = `${Math.max(0, Math.min(room, mark.offsetLeft - 2))}px`;
  };
  own.check = async () => {
    clearTimeout(timer);
    asked?.abort();
    const filter = area.value;
    if (filter.trim() === "") {
      own.refuse("");
      return true;
    }
    asked = new AbortController();
    try {
      const said = await api.post("filters/check", { filter }, { signal: asked.signal });
      if (filter !== area.value) return said.valid;
      if (said.valid) {
        own.refuse("");
        text(verdict, `compiles to ${said.instructions} instructions`);
      } else {
        own.refuse(said.error.detail, said.error.offset, said.error.length);
      }
      return said.valid;
    } catch (refused) {
      if (refused.name === "AbortError") return true;
      own.refuse(refused.sentence ?? refused.message);
      return !(refused instanceof api.Refusal) || refused.status !== 400;
    }
  };
  area.addEventListener("input", () => {
    clearTimeout(timer);
    text(verdict, "");
    timer = setTimeout(own.check, CHECK_AFTER_MS);
  });
  area.addEventListener("scroll", () => (under.scrollTop = area.scrollTop));
  return own;
}

function portsField() {
  const boxes = store.ports.map((port) => h("input", { type: "checkbox", value: port.name, id: `start-port-${port.name}`, checked: true }));
  const error = h("p", { class: "error", role: "alert", id: "start-ports-error" });
  const own = {
    name: "ports",
    control: boxes[0] ?? h("input"),
    boxes,
    judge: () => (boxes.some((box) => box.checked) || boxes.length === 0 ? "" : "At least one port is needed."),
    refuse: (words) => text(error, words),
    element: h("fieldset", { class: "field ports", "aria-describedby": "start-ports-error" }, h("legend", {}, "Ports"),
      store.ports.map((port, i) => h("label", { class: "check" }, boxes[i], port.name, h("small", {}, port.interface ?? port.driver), port.link === "down" && h("small", { class: "bad" }, "down"))),
      error),
  };
  boxes.forEach((box) => box.addEventListener("change", () => own.refuse(own.judge())));
  return own;
}

const select = (options) => h("select", {}, options.map(([value, name]) => h("option", { value }, name)));

function fieldsOf() {
  const long = (most) => (words) => (bytesOf(words) > most ? `${bytesOf(words)} bytes are too long; at most ${most} are allowed.` : "");
  return {
    name: field("name", "Name", input({ placeholder: "what people will look for" }), "", long(255)),
    filter: filterField(),
    ports: portsField(),
    seconds: field("limits.seconds", "Time", input({ inputmode: "text", placeholder: "no limit" }), "90, 5 min, 2 h", number(parseSeconds, 315360000, "90, 5 min or 2 h")),
    packets: field("limits.packets", "Packets", input({ placeholder: "no limit" }), "10000, 5M; exact", number(parseCount, MOST, "10000 or 5M")),
    bytes: field("limits.bytes", "Captured bytes", input({ placeholder: "no limit" }), "500M, 10G", number(parseCount, MOST, "500M or 10G")),
    file: field("limits.file_bytes", "File size", input({ placeholder: "no limit" }), "of the file as delivered", number(parseCount, MOST, "500M or 10G")),
    snaplen: field("snaplen", "Bytes of each packet", input({ placeholder: "all" }), "1 to 262144", (words) => {
      const value = parseCount(words);
      return Number.isNaN(value) || value > 262144 ? `"${words.trim()}" is out of range: 1 to 262144, or nothing for whole packets.` : "";
    }),
    direction: field("direction", "Direction", select([["both", "in and out"], ["in", "received"], ["out", "sent"]]), ""),
    rate: field("sampling.rate_pps", "Packets a second", input({ placeholder: "all" }), "at most; 1000, 5k", number(parseCount, 1e12, "1000 or 5k")),
    mode: field("sampling.mode", "Sampling", select([["none", "every packet"], ["every", "every nth packet"], ["random", "a random one in n"], ["flow", "one flow in n, whole"]]), ""),
    n: field("sampling.n", "n", input({ value: "100" }), "", (words) => {
      const value = parseCount(words);
      return Number.isNaN(value) || value < 1 || value > 4294967295 ? `"${words.trim()}" is out of range: 1 to 4294967295.` : "";
    }),
    output: field("output.type", "Packets go to", select([["file", "a file here"], ["stream", "a receiver, by UDP"], ["none", "nowhere: count only"]]), ""),
    bucket: field("output.bucket", "Bucket", select([]), ""),
    prefix: field("output.prefix", "Prefix", input({ placeholder: "none" }), "the object is PREFIX/ID.pcapng", judgePrefix),
    address: field("output.address", "Address", input({ placeholder: "10.1.2.3" }), "of the receiver", judgeAddress),
    port: field("output.port", "UDP port", input({ placeholder: "the usual one" }), "4754 for GRE, 37008 for TZSP", number(parseCount, 65535, "a port as 4754", "the usual one")),
    encapsulation: field("output.encapsulation", "In", select([["gre", "GRE"], ["tzsp", "TZSP"]]), ""),
    bytesExpected: field("expected.bytes_per_second", "Bytes a second", input({ placeholder: "not known" }), "200M, 1.2G", number(parseCount, MOST, "200M or 1.2G", "not known")),
    packetsExpected: field("expected.packets_per_second", "Packets a second", input({ placeholder: "not known" }), "that pass the filter", number(parseCount, MOST, "100k or 2M", "not known")),
    notes: field("notes", "Notes", h("textarea", { rows: "2" }), "", long(4095)),
  };
}

function outputOf(value) {
  const type = value("output");
  if (type === "s3") return { type, bucket: value("bucket"), ...(value("prefix") && { prefix: value("prefix") }) };
  if (type === "stream") return { type, address: value("address").trim(), encapsulation: value("encapsulation"), ...(parseCount(value("port")) > 0 && { port: parseCount(value("port")) }) };
  return { type };
}

// Fields that mean something only with another's value.
const OF_OUTPUT = { bucket: "s3", prefix: "s3", address: "stream", port: "stream", encapsulation: "stream" };
function neededShow(fields) {
  fields.n.element.hidden = fields.mode.control.value === "none";
  for (const [name, type] of Object.entries(OF_OUTPUT)) fields[name].element.hidden = fields.output.control.value !== type;
}

// Buckets that the daemon offers to this account.
async function bucketsOffer(fields) {
  const { buckets } = await api.get("buckets").catch(() => ({ buckets: [] }));
  if (buckets.length === 0) return;
  fields.output.control.options[0].after(h("option", { value: "s3" }, "a bucket"));
  fields.bucket.control.replaceChildren(...buckets.map(({ name, bucket, prefix }) =>
    h("option", { value: name }, name === bucket && !prefix ? name : `${name} (${bucket}${prefix && `/${prefix}`})`)));
}

function specOf(fields) {
  const value = (name) => fields[name].control.value;
  const spec = {};
  const limits = { seconds: parseSeconds(value("seconds")), packets: parseCount(value("packets")), bytes: parseCount(value("bytes")), file_bytes: parseCount(value("file")) };
  const named = Object.fromEntries(Object.entries(limits).filter(([, limit]) => limit > 0));
  if (value("name").trim()) spec.name = value("name").trim();
  if (value("filter").trim()) spec.filter = value("filter").trim();
  const ports = fields.ports.boxes.filter((box) => box.checked).map((box) => box.value);
  if (ports.length < fields.ports.boxes.length) spec.ports = ports;
  if (Object.keys(named).length > 0) spec.limits = named;
  if (parseCount(value("snaplen")) > 0) spec.snaplen = parseCount(value("snaplen"));
  if (value("mode") !== "none") spec.sampling = { mode: value("mode"), n: parseCount(value("n")) };
  if (parseCount(value("rate")) > 0) spec.sampling = { ...spec.sampling, rate_pps: parseCount(value("rate")) };
  if (value("direction") !== "both") spec.direction = value("direction");
  const output = outputOf(value);
  if (output.type !== "file") spec.output = output;
  const expected = { bytes_per_second: parseCount(value("bytesExpected")), packets_per_second: parseCount(value("packetsExpected")) };
  if (expected.bytes_per_second + expected.packets_per_second > 0) spec.expected = expected;
  if (value("notes").trim()) spec.notes = value("notes");
  return spec;
}

function presetUse(fields, preset) {
  const defaults = { filter: "", seconds: "", packets: "", bytes: "", file: "", snaplen: "", direction: "both", rate: "", mode: "none", n: "100", output: "file" };
  for (const [name, value] of Object.entries({ ...defaults, ...preset })) {
    fields[name].control.value = value;
    fields[name].refuse("");
  }
  neededShow(fields);
  fields.filter.check();
}

// Everything wrong at once, at its field; the first gets the focus.
function judged(fields) {
  let first = null;
  for (const each of Object.values(fields)) {
    if (each.name === "filter" || each.element.hidden) continue;
    const words = each.judge?.(each.control.value) ?? "";
    each.refuse(words);
    if (words) first ??= each;
  }
  first?.control.focus();
  return first === null;
}

function refused(fields, general, error) {
  const name = error.field ?? null;
  const own = Object.values(fields).find((each) => each.name === name || (name !== null && name.startsWith(`${each.name}.`)));
  if (own === undefined) {
    text(general, error.message);
    return;
  }
  own.refuse(error.sentence);
  own.control.focus();
}

export async function startDialog() {
  // Just after the sign-in the stream may not have said which there are.
  if (store.ports.length === 0) store.ports = (await api.get("ports").catch(() => ({ ports: [] }))).ports;
  const fields = fieldsOf();
  const general = h("p", { class: "error", role: "alert" });
  const submit = h("button", { type: "submit", class: "primary" }, "Start");
  const endless = h("p", { class: "fine" });
  const limitsTold = () => text(endless, [fields.seconds, fields.packets, fields.bytes, fields.file].every((each) => each.control.value.trim() === "")
    ? "Without a limit it runs until somebody stops it." : "Whichever is reached first ends it.");
  for (const { control } of [fields.mode, fields.output]) control.addEventListener("change", () => neededShow(fields));

  const send = async (event) => {
    event.preventDefault();
    text(general, "");
    if (!judged(fields)) return;
    submit.disabled = true;
    try {
      if (!(await fields.filter.check())) {
        fields.filter.control.focus();
        return;
      }
      const capture = await api.post("captures", specOf(fields));
      learn(capture);
      say(`${capture.name || "Capture"} is running`);
      dialog.close();
      location.hash = `#/captures/${capture.id}`;
    } catch (error) {
      refused(fields, general, error);
    } finally {
      submit.disabled = false;
    }
  };
  const form = h("form", { novalidate: true, onsubmit: send, oninput: limitsTold },
    h("h2", { id: "start-title" }, "Start a capture"),
    h("div", { class: "presets", role: "group", "aria-label": "Presets" }, PRESETS.map(([name, title, preset]) =>
      h("button", { type: "button", class: "chip", title, onclick: () => { presetUse(fields, preset); limitsTold(); } }, name))),
    fields.filter.element,
    h("div", { class: "grid" }, fields.name.element, fields.ports.element),
    h("fieldset", { class: "group" }, h("legend", {}, "Until"), h("div", { class: "grid four" }, fields.seconds.element, fields.packets.element, fields.bytes.element, fields.file.element), endless),
    h("fieldset", { class: "group" }, h("legend", {}, "Of it, keep"), h("div", { class: "grid four" }, ["snaplen", "rate", "direction", "mode", "n"].map((name) => fields[name].element))),
    h("fieldset", { class: "group" }, h("legend", {}, "To"), h("div", { class: "grid four" }, ["output", ...Object.keys(OF_OUTPUT)].map((name) => fields[name].element))),
    h("details", { class: "group" }, h("summary", {}, "How much is expected"),
      h("div", { class: "grid" }, fields.bytesExpected.element, fields.packetsExpected.element),
      h("p", { class: "fine" }, "It is held against what the disk takes, before the capture begins.")),
    fields.notes.element,
    general,
    h("div", { class: "buttons" }, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), submit));
  const dialog = h("dialog", { class: "start", "aria-labelledby": "start-title", onclose: () => dialog.remove() }, form);
  document.body.append(dialog);
  neededShow(fields);
  limitsTold();
  bucketsOffer(fields);
  dialog.showModal();
  fields.filter.control.focus();
}
