// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// One packet: its line, its layers, its bytes. A field that is chosen marks its bytes.
import { h, toggle } from "./dom.js";
import { count, precise } from "./format.js";

const PER_ROW = 16;
const FIRST = 2048; // bytes shown before somebody asks for all

export const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
const hex = (n, digits) => n.toString(16).padStart(digits, "0");
const letter = (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "·");

class Hex {
  constructor(data) {
    this.data = data;
    this.cells = [];
    this.element = h("div", { class: "hex mono", role: "region", tabindex: "0", "aria-label": "Bytes" });
    this.show(Math.min(data.length, FIRST));
  }

  show(n) {
    const rows = [];
    this.cells = Array(n);
    for (let at = 0; at < n; at += PER_ROW) {
      const part = this.data.subarray(at, Math.min(at + PER_ROW, n));
      const pairs = h("span", { class: "pairs" });
      const letters = h("span", { class: "letters" });
      part.forEach((byte, i) => {
        const pair = h("i", {}, hex(byte, 2));
        const sign = h("i", {}, letter(byte));
        if (i > 0) pairs.append(i === PER_ROW / 2 ? "  " : " ");
        pairs.append(pair);
        letters.append(sign);
        this.cells[at + i] = [pair, sign];
      });
      rows.push(h("div", {}, h("span", { class: "offset" }, hex(at, 4)), pairs, letters));
    }
    const rest = this.data.length - n;
    this.element.replaceChildren(...rows, rest > 0 ? h("button", { type: "button", class: "quiet", onclick: () => this.show(this.data.length) }, `Show the other ${count(rest)} bytes`) : "");
  }

  mark(offset, length) {
    this.cells.forEach((cell, i) => cell.forEach((node) => toggle(node, "marked", i >= offset && i < offset + length)));
    this.cells[offset]?.[0].scrollIntoView({ block: "nearest" });
  }
}

function layerTree(layers, dump) {
  let chosen = null;
  const choose = (node, offset, length) => {
    chosen?.classList.remove("chosen");
    chosen = node;
    node.classList.add("chosen");
    dump.mark(offset, length);
  };
  return h("div", { class: "layers" }, layers.map((layer, i) => {
    const summary = h("summary", {}, layer.name, h("small", {}, `${count(layer.length)} bytes`));
    summary.addEventListener("click", () => choose(summary, layer.offset, layer.length));
    return h("details", { open: i < 6 && layer.fields.length > 0 }, summary,
      layer.fields.length > 0 && h("dl", {}, layer.fields.map((field) => {
        const row = h("button", { type: "button", onclick: () => choose(row, field.offset, field.length) }, h("span", {}, field.name), h("b", {}, field.value));
        return row;
      })));
  }));
}

// packet: a summary; layers, data: of it. whole: false where data is only the first bytes of what was captured.
export function packetDetail(packet, layers, data, close) {
  const dump = new Hex(data);
  const cut = packet.length > packet.captured_length ? `, ${count(packet.length)} on the wire` : "";
  const shown = data.length < packet.captured_length ? `; live, the first ${count(data.length)} are shown` : "";
  return h("section", { class: "detail", "aria-label": `Packet ${packet.number}` },
    h("header", {},
      h("h3", {}, `Packet ${count(packet.number)}`),
      h("span", { class: "note" }, `${precise(packet.time)} · ${count(packet.captured_length)} bytes${cut}${shown}`),
      h("span", { class: "spring" }),
      h("button", { type: "button", class: "quiet", "aria-label": "Close packet", onclick: close }, "Close")),
    h("p", { class: "info mono" }, packet.info),
    h("div", { class: "halves" }, layerTree(layers, dump), dump.element));
}
