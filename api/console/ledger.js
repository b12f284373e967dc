// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// The ledger as a picture: packets flow from left to right, and what leaves the stream leaves it visibly,
// with its number. Every bar is as tall as what comes in, so the picture adds up because the books do.
import { h, s } from "./dom.js";
import { count } from "./format.js";

const WIDTH = 960;
const TALL = 150; // of what was offered
const TOP = 34;
const BAR = 14;
const LEAST = 3; // a single packet of a million is seen
const GAP = 10;
const STEP = 26; // a label's room
const COLUMNS = [10, 330, 640, WIDTH - 150];

const WHY = {
  no_block: "no free block",
  oversize: "longer than a block allows",
  encode_error: "could not be framed",
  io_error: "write failed",
  no_space: "no space",
  quota: "quota",
  writer_stopped: "writer stopped",
  stream_backpressure: "receiver too slow",
};
export const reasonWords = (reason) => WHY[reason] ?? reason.replaceAll("_", " ");

const sum = (list) => list.reduce((total, [, n]) => total + n, 0);

// What comes into each bar, what goes on, and what leaves.
function stagesOf(ledger) {
  const losses = Object.entries(ledger.dropped).filter(([, n]) => n > 0).map(([reason, n]) => [`dropped: ${reasonWords(reason)}`, n, "lost"]);
  return [
    { name: "Offered", value: ledger.offered, on: ledger.accepted,
      out: [["filtered", ledger.filtered, "left"], ["sampled out", ledger.sampled_out, "left"], ["over limit", ledger.over_limit, "left"]] },
    { name: "Accepted", value: ledger.accepted, on: ledger.written,
      out: [...losses, ["in flight", ledger.in_flight, "wait"], ["unknown after recovery", ledger.unknown, "lost"]] },
    { name: "Written", value: ledger.written, on: ledger.durable, out: [["not yet durable", ledger.written - ledger.durable, "wait"]] },
    { name: "Durable", value: ledger.durable, on: 0, out: [] },
  ];
}

const ribbon = (x1, y1, x2, y2, tall, kind) => {
  const middle = (x1 + x2) / 2;
  return s("path", { class: `flow ${kind}`,
    d: `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}V${y2 + tall}C${middle} ${y2 + tall} ${middle} ${y1 + tall} ${x1} ${y1 + tall}Z` });
};

function draw(ledger) {
  const stages = stagesOf(ledger);
  const height = (n) => (n === 0 ? 0 : Math.max(LEAST, (n / Math.max(1, ledger.offered)) * TALL));
  const shapes = [];
  let bottom = TOP + TALL;

  stages.forEach((stage, i) => {
    const x = COLUMNS[i];
    const out = stage.out.filter(([, n]) => n > 0);
    const on = height(stage.on);
    // Small numbers are drawn taller than they are: the bar is as tall as its parts.
    const tall = stage.value === 0 ? 0 : Math.max(on + out.reduce((all, [, n]) => all + height(n), 0), i === 3 ? height(stage.value) : 0);
    shapes.push(s("text", { x, y: 14, class: "stage" }, stage.name), s("text", { x, y: 28, class: "number" }, count(stage.value)));
    if (i < 3 && on > 0) shapes.push(ribbon(x + BAR, TOP, COLUMNS[i + 1], TOP, on, "on"));
    let y = TOP + on;
    let place = Math.max(TOP + on + GAP, TOP + 24);
    for (const [name, n, kind] of out) {
      const thick = height(n);
      const end = x + 118;
      shapes.push(ribbon(x + BAR, y, end, place, thick, kind));
      shapes.push(s("text", { x: end + 6, y: place + Math.min(thick / 2, TALL) + 0, class: `out ${kind}` }, s("tspan", { class: "number" }, count(n)), ` ${name}`));
      y += thick;
      place += Math.max(thick + GAP, STEP);
      bottom = Math.max(bottom, place);
    }
    shapes.push(s("rect", { x, y: TOP, width: BAR, height: Math.max(tall, 1), class: stage.value > 0 ? "bar" : "bar none" }));
    bottom = Math.max(bottom, TOP + tall);
  });
  return { shapes, bottom };
}

function lawsOf(ledger) {
  const losses = Object.entries(ledger.dropped).filter(([, n]) => n > 0);
  const plus = (list) => list.filter(([name, n], i) => n > 0 || i === 0).map(([name, n]) => `${name} ${count(n)}`).join(" + ");
  const first = [["accepted", ledger.accepted], ["filtered", ledger.filtered], ["sampled out", ledger.sampled_out], ["over limit", ledger.over_limit]];
  const second = [["written", ledger.written], ...losses.map(([reason, n]) => [reasonWords(reason), n]), ["in flight", ledger.in_flight], ["unknown", ledger.unknown]];
  return [
    [`offered ${count(ledger.offered)} = ${plus(first)}`, ledger.offered - sum(first)],
    [`accepted ${count(ledger.accepted)} = ${plus(second)}`, ledger.accepted - sum(second)],
  ];
}

// show(ledger, running): counters of many cores are read while they move, so a law may be a few packets off.
export function ledgerMake() {
  const flow = h("div", { class: "ledger-scroll", tabindex: "0", role: "group", "aria-label": "Flow of packets" });
  const list = h("ul", { class: "laws" });
  return {
    element: h("div", { class: "ledger" }, flow, list),
    show(ledger, running) {
      const { shapes, bottom } = draw(ledger);
      const laws = lawsOf(ledger);
      flow.replaceChildren(s("svg", { viewBox: `0 0 ${WIDTH} ${bottom + 6}`, role: "img", "aria-label": `Ledger: ${laws.map(([law]) => law).join("; ")}` }, shapes));
      list.replaceChildren(...laws.map(([law, rest]) =>
        h("li", { class: rest === 0 ? "holds" : running ? "moves" : "broken" },
          h("span", { class: "law" }, law),
          h("span", { class: "verdict" }, rest === 0 ? "adds up" : running ? "moving" : `${count(rest)} missing`))));
    },
  };
}
