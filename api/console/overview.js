// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// How the daemon is: what comes in, where it could get stuck, what is lost and why.
import { Chart } from "./chart.js";
import { h, text, toggle } from "./dom.js";
import { bits, byteRate, bytes, count, duration, pps, percent, seconds, when } from "./format.js";
import { reasonWords } from "./ledger.js";
import { startDialog } from "./start.js";
import { closed, dropped, may, onChange, sorted, store } from "./store.js";

const TITLES = { nic: "Wire", rx_core: "RX cores", blocks: "Block memory", disk: "Disk" };

// One place on a packet's way: a figure, a bar, a line below.
function tile(key) {
  const figure = h("b", { class: "figure" }, "–");
  const bar = h("i", {});
  const note = h("span", { class: "note" });
  const meter = h("div", { class: "meter" }, bar);
  const element = h("li", { class: "tile" }, h("h3", {}, TITLES[key]), figure, meter, note);
  return {
    element,
    show(value, share, words, warn) {
      text(figure, value);
      text(note, words);
      meter.hidden = share === null;
      bar.style.width = `${Math.min(100, (share ?? 0) * 100)}%`;
      toggle(meter, "high", warn);
    },
  };
}

function tilesShow(tiles, status) {
  const { nic, rx_core, blocks, disk } = status.resources;
  const offered = [...store.portRates.values()].reduce((sum, rate) => sum + rate.packets, 0);
  const lost = nic.ports.reduce((sum, port) => sum + port.missed_per_second + port.nombuf_per_second + port.errors_per_second, 0);
  const blind = nic.ports.some((port) => port.loss_visibility === "none");
  tiles.nic.show(pps(offered), null, lost > 0 ? `${count(lost)} lost a second before us` : blind ? "no loss that a driver shows; one shows none" : "nothing lost before us", lost > 0);
  const busiest = rx_core.lcores.reduce((most, core) => (core.busy_percent >= (most?.busy_percent ?? -1) ? core : most), null);
  if (busiest)
    tiles.rx_core.show(`${busiest.busy_percent} % busy`, busiest.busy_percent / 100,
      `CPU ${busiest.cpu}${rx_core.lcores.length > 1 ? `, the busiest of ${rx_core.lcores.length}` : ""}; ${busiest.full_polls_percent} % full polls`, busiest.full_polls_percent > 90);
  const used = status.blocks.total - status.blocks.free;
  tiles.blocks.show(`${percent(used, status.blocks.total)} in use`, used / Math.max(1, status.blocks.total),
    blocks.missed_per_second > 0 ? `${count(blocks.missed_per_second)} packets a second found none` : `${count(blocks.low)} of ${count(blocks.total)} free at worst`, blocks.missed_per_second > 0);
  const ceiling = disk.ceiling_bytes_per_second;
  tiles.disk.show(byteRate(disk.bytes_per_second), ceiling ? disk.bytes_per_second / ceiling : null,
    ceiling ? `${percent(disk.bytes_per_second, ceiling)} of the ${byteRate(ceiling)} that were measured` : "its ceiling was not measured", ceiling ? disk.bytes_per_second > 0.9 * ceiling : false);
  for (const [key, { element }] of Object.entries(tiles)) toggle(element, "narrow", status.bottleneck === key);
}

function verdictShow(node, status) {
  const running = sorted().filter((capture) => !closed(capture)).length;
  const losing = status.bottleneck !== null;
  node.className = `verdict ${losing ? "bad" : "good"}`;
  text(node.firstChild, losing ? `${TITLES[status.bottleneck]} ${status.bottleneck === "rx_core" ? "are" : "is"} the bottleneck`
    : running > 0 ? "Nothing is lost" : "Nothing is being captured");
  text(node.lastChild, losing ? `since ${when(status.bottleneck_since)}: ${status.explanation}`
    : running > 0 ? `${running} capture${running > 1 ? "s" : ""} running; every packet that was accepted is on its way to a file.`
    : store.captures.size > 0 ? "Packets are seen and counted, but none is kept." : "");
}

const COLUMNS = ["Port", "Link", "Rate", "", "Offered", "Lost before us", "Loss is"];

function portRow(port) {
  const rate = store.portRates.get(port.name) ?? { packets: 0, bytes: 0, lost: 0 };
  const { counters } = port;
  const lost = counters.nic_missed + counters.nic_errors + counters.nic_nombuf;
  return h("tr", {},
    h("th", { scope: "row" }, port.name, h("small", {}, port.interface ?? port.device)),
    h("td", {}, h("span", { class: `pill ${port.link}` }, port.link), h("small", {}, port.speed_mbps ? `${count(port.speed_mbps)} Mbit/s` : port.driver)),
    h("td", { class: "n" }, pps(rate.packets)),
    h("td", { class: "n" }, counters.rx_bytes > 0 || counters.rx === 0 ? bits(rate.bytes) : "–"),
    h("td", { class: "n" }, count(counters.offered)),
    h("td", { class: lost > 0 ? "n bad" : "n" }, count(lost)),
    h("td", {}, { exact: "counted exactly", lower_bound: "a lower bound", none: "not visible" }[port.loss_visibility]));
}

function dropsShow(body, empty) {
  const sums = new Map();
  for (const { ledger } of store.captures.values())
    for (const [reason, n] of Object.entries(ledger.dropped)) if (n > 0) sums.set(reason, (sums.get(reason) ?? 0) + n);
  for (const port of store.ports)
    for (const [name, words] of [["nic_missed", "missed by"], ["nic_errors", "errors of"], ["nic_nombuf", "no buffer for"]])
      if (port.counters[name] > 0) sums.set(`${words} ${port.name}`, port.counters[name]);
  empty.hidden = sums.size > 0;
  body.replaceChildren(...[...sums].sort((a, b) => b[1] - a[1]).map(([reason, n]) =>
    h("tr", {}, h("th", { scope: "row" }, reasonWords(reason)), h("td", { class: "n bad" }, count(n)))));
}

function storageShow(node, status) {
  const { storage, at_risk } = status;
  node.bar.style.width = percent(storage.used_bytes, storage.quota_bytes).replace(" ", "").replace("–", "0");
  text(node.used, `${bytes(storage.used_bytes)} of ${bytes(storage.quota_bytes)}`);
  text(node.risk, at_risk.packets > 0 ? `${count(at_risk.packets)} packets (${bytes(at_risk.bytes)}) are written but not yet durable` : "everything that is written is durable");
  text(node.daemon, `version ${status.version}, up for ${duration(status.uptime_seconds)}`);
}

const runningRow = (capture) => {
  const rate = store.rates.get(capture.id);
  return h("tr", {},
    h("th", { scope: "row" }, h("a", { href: `#/captures/${capture.id}` }, capture.name || capture.id.slice(0, 8)), capture.filter && h("small", { class: "mono" }, capture.filter)),
    h("td", { class: "n" }, rate ? pps(rate.packets) : "–"),
    h("td", { class: "n" }, count(capture.ledger.written)),
    h("td", { class: dropped(capture.ledger) > 0 ? "n bad" : "n" }, count(dropped(capture.ledger))),
    h("td", { class: "n" }, duration(seconds(capture.started_at))));
};

export function overviewView() {
  const verdict = h("div", { class: "verdict", role: "status" }, h("h2", {}, "…"), h("p", {}));
  const tiles = { nic: tile("nic"), rx_core: tile("rx_core"), blocks: tile("blocks"), disk: tile("disk") };
  const packets = new Chart("Packets a second", pps);
  const traffic = new Chart("Bits a second", bits);
  const disk = new Chart("To disk", byteRate, () => store.status?.resources.disk.ceiling_bytes_per_second ?? undefined);
  const ports = h("tbody", {});
  const drops = h("tbody", {});
  const noDrops = h("p", { class: "empty" }, "No packet was lost.");
  const running = h("tbody", {});
  const table = h("table", { class: "dense" }, h("thead", {}, h("tr", {}, ["Capture", "Rate", "Written", "Dropped", "For"].map((name, i) => h("th", { scope: "col", class: i ? "n" : "" }, name)))), running);
  const noRunning = h("div", { class: "empty", hidden: true },
    h("p", {}, may("operator") ? "No capture is running. Start one, and its packets are here a second later." : "No capture is running."),
    may("operator") && h("button", { type: "button", class: "primary", onclick: () => startDialog() }, "Start a capture"));
  const storage = { bar: h("i", {}), used: h("b", {}), risk: h("p", { class: "note" }), daemon: h("p", { class: "note" }) };

  const update = () => {
    const { status, history } = store;
    if (status === null) return;
    const names = store.ports.map((port) => port.name);
    const now = sorted().filter((capture) => !closed(capture));
    verdictShow(verdict, status);
    tilesShow(tiles, status);
    packets.draw(names, history.time, names.map((name) => history.ports.get(name)?.packets ?? []));
    traffic.draw(names, history.time, names.map((name) => history.ports.get(name)?.bytes ?? []));
    disk.draw(["written"], history.time, [history.disk]);
    ports.replaceChildren(...store.ports.map(portRow));
    dropsShow(drops, noDrops);
    storageShow(storage, status);
    running.replaceChildren(...now.slice(0, 12).map(runningRow));
    table.hidden = now.length === 0;
    noRunning.hidden = now.length > 0;
  };
  const stop = onChange(update);
  const element = h("div", { class: "view overview" },
    h("h1", { class: "unseen" }, "Overview"),
    h("section", { class: "panel chain", "aria-label": "Bottleneck" }, verdict, h("ol", { class: "tiles" }, Object.values(tiles).map((each) => each.element))),
    h("section", { class: "charts", "aria-label": "Rates" }, packets.element, traffic.element, disk.element),
    h("section", { class: "panel" }, h("h2", {}, "Ports"), h("div", { class: "wide" },
      h("table", { class: "dense" }, h("thead", {}, h("tr", {}, COLUMNS.map((name, i) => h("th", { scope: "col", class: i >= 2 && i <= 5 ? "n" : "" }, name)))), ports))),
    h("div", { class: "columns" },
      h("section", { class: "panel" }, h("h2", {}, "Running"), h("div", { class: "wide" }, table), noRunning),
      h("section", { class: "panel" }, h("h2", {}, "Drops by reason"), h("table", { class: "dense" }, drops), noDrops),
      h("section", { class: "panel" }, h("h2", {}, "Storage"), h("p", {}, storage.used, " used"), h("div", { class: "meter" }, storage.bar), storage.risk, storage.daemon)));
  update();
  return { element, close() { stop(); packets.close(); traffic.close(); disk.close(); } };
}
