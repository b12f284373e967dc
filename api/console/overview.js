// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// How the daemon is: what comes in, where it could get stuck, what is lost and why.
import * as actions from "./actions.js";
import { Chart } from "./chart.js";
import { h, keyed, text, toggle } from "./dom.js";
import { bits, byteRate, bytes, count, duration, pps, percent, seconds, when } from "./format.js";
import { reasonWords } from "./ledger.js";
import { active, dropped, LOST, may, onChange, sorted, store } from "./store.js";

const RECENT = 5; // seconds
const SHOWN = 12; // running captures
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

const PORT_LOSS = { nic_missed: "missed by", nic_errors: "errors of", nic_nombuf: "no buffer for" };

// "drop no_block", "drop nic_missed tap0" as people say it.
function dropWords(name) {
  const [, reason, port] = name.split(" ");
  return port ? `${PORT_LOSS[reason]} ${port}` : reasonWords(reason);
}

// What was lost in the last seconds, in words; "" if nothing.
function losses() {
  const { history } = store;
  const news = history.alive("drop ").map((name) => [name, Math.max(...history.row(name).slice(-RECENT))]).filter(([, rate]) => rate > 0);
  return news.sort((a, b) => b[1] - a[1]).map(([name, rate]) => `${dropWords(name)} (${pps(rate)})`).join(", ");
}

// A title and a sentence: the bottleneck, else what is lost without one, else that nothing is.
function verdictOf(status) {
  const running = sorted().filter(active).length;
  if (status.bottleneck !== null)
    return [false, `${TITLES[status.bottleneck]} ${status.bottleneck === "rx_core" ? "are" : "is"} the bottleneck`, `since ${when(status.bottleneck_since)}: ${status.explanation}`];
  const lost = losses();
  if (lost) return [false, "Packets are being lost", `${lost}. No resource is the bottleneck.`];
  if (running === 0) return [true, "Nothing is being captured", store.captures.size > 0 ? "Packets are seen and counted, but none is kept." : ""];
  const before = dropTotals().length > 0;
  return [true, before ? "Nothing is lost now" : "Nothing is lost",
    `${running} capture${running > 1 ? "s" : ""} running; every packet that is accepted now gets where it is to go.${before ? " What was lost before stands below, by reason." : ""}`];
}

function verdictShow(node, status) {
  const [good, title, words] = verdictOf(status);
  node.className = `verdict ${good ? "good" : "bad"}`;
  text(node.firstChild, title);
  text(node.lastChild, words);
}

const COLUMNS = ["Port", "Link", "Rate", "Traffic", "Offered", "Lost before us", "Loss is"];

const LOSS_IS = { exact: "counted exactly", lower_bound: "a lower bound", none: "not visible" };
const figures = (n) => Array.from({ length: n }, () => h("td", { class: "n" }));

function portRow() {
  const [name, place, speed] = [h("span", {}), h("small", {}), h("small", {})];
  const pill = h("span", { class: "pill" });
  const [rate, traffic, offered, lost] = figures(4);
  const visible = h("td", {});
  return {
    element: h("tr", {}, h("th", { scope: "row" }, name, place), h("td", {}, pill, speed), rate, traffic, offered, lost, visible),
    show(port) {
      const { counters } = port;
      const now = store.portRates.get(port.name) ?? { packets: 0, bytes: 0 };
      const gone = LOST.reduce((sum, each) => sum + counters[each], 0);
      text(name, port.name);
      text(place, port.interface ?? port.device);
      text(pill, port.link);
      pill.className = `pill ${port.link}`;
      text(speed, port.speed_mbps ? `${count(port.speed_mbps)} Mbit/s` : port.driver);
      text(rate, pps(now.packets));
      text(traffic, counters.rx_bytes > 0 || counters.rx === 0 ? bits(now.bytes) : "–");
      text(offered, count(counters.offered));
      text(lost, count(gone));
      toggle(lost, "bad", gone > 0);
      text(visible, LOSS_IS[port.loss_visibility]);
    },
  };
}

// Of all captures of this process and of its ports: [name, packets], most first.
function dropTotals() {
  const all = Object.entries(store.status.dropped).map(([reason, n]) => [`drop ${reason}`, n]);
  for (const { name, counters } of store.ports) for (const lost of LOST) all.push([`drop ${lost} ${name}`, counters[lost]]);
  return all.filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]);
}

function dropRow([name]) {
  const [rate, sum] = figures(2);
  sum.classList.add("bad");
  return {
    element: h("tr", {}, h("th", { scope: "row" }, dropWords(name)), rate, sum),
    show([, n]) {
      text(rate, pps(store.history.row(name).at(-1) ?? 0));
      text(sum, count(n));
    },
  };
}

function dropsDraw(chart) {
  const { history } = store;
  const names = history.alive("drop ").sort();
  chart.draw(names.length > 0 ? names.map(dropWords) : ["none"], history.time, names.length > 0 ? names.map((name) => history.row(name)) : [history.row("disk").map((n) => (n === null ? null : 0))]);
}

function storageShow(node, status) {
  const { storage, at_risk } = status;
  node.bar.style.width = percent(storage.used_bytes, storage.quota_bytes).replace(" ", "").replace("–", "0");
  text(node.used, `${bytes(storage.used_bytes)} of ${bytes(storage.quota_bytes)}`);
  text(node.risk, at_risk.packets > 0 ? `${count(at_risk.packets)} packets (${bytes(at_risk.bytes)}) are accepted but not yet durable` : "everything that was accepted is durable");
  text(node.daemon, `version ${status.version}, up for ${duration(status.uptime_seconds)}`);
}

function runningRow({ id }) {
  const name = h("a", { href: `#/captures/${id}`, class: "clamped", dir: "auto" });
  const filter = h("small", { class: "mono clamped" });
  const [rate, written, lost, time] = figures(4);
  return {
    element: h("tr", {}, h("th", { scope: "row" }, name, filter), rate, written, lost, time),
    show(capture) {
      const now = store.rates.get(id);
      const gone = dropped(capture.ledger);
      text(name, capture.name || id.slice(0, 8));
      text(filter, capture.filter);
      text(rate, now ? pps(now.packets) : "–");
      text(written, count(capture.ledger.written));
      text(lost, count(gone));
      toggle(lost, "bad", gone > 0);
      text(time, duration(seconds(capture.started_at)));
    },
  };
}

export function overviewView() {
  const verdict = h("div", { class: "verdict" }, h("h2", { "aria-live": "polite" }, "…"), h("p", {}));
  const tiles = { nic: tile("nic"), rx_core: tile("rx_core"), blocks: tile("blocks"), disk: tile("disk") };
  const packets = new Chart("Packets a second", pps);
  const traffic = new Chart("Bits a second", bits);
  const disk = new Chart("To disk", byteRate, () => store.status?.resources.disk.ceiling_bytes_per_second ?? undefined);
  const ports = h("tbody", {});
  const portsShow = keyed(ports, (port) => port.name, portRow);
  const lost = new Chart("Lost, packets a second", pps);
  const drops = h("tbody", {});
  const dropsShow = keyed(drops, ([name]) => name, dropRow);
  const dropTable = h("table", { class: "dense", "aria-label": "Drops by reason" }, h("thead", {}, h("tr", {}, ["Reason", "Now", "Since the start"].map((name, i) => h("th", { scope: "col", class: i ? "n" : "" }, name)))), drops);
  const noDrops = h("p", { class: "empty" }, "No packet was lost since the daemon was started.");
  const running = h("tbody", {});
  const runningShow = keyed(running, (capture) => capture.id, runningRow);
  const table = h("table", { class: "dense", "aria-label": "Running" }, h("thead", {}, h("tr", {}, ["Capture", "Rate", "Written", "Dropped", "For"].map((name, i) => h("th", { scope: "col", class: i ? "n" : "" }, name)))), running);
  const more = h("a", { href: "#/captures", hidden: true });
  const noRunning = h("div", { class: "empty", hidden: true },
    h("p", {}, may("operator") ? "No capture is running. Start one, and its packets are here a second later." : "No capture is running."),
    may("operator") && h("button", { type: "button", class: "primary", onclick: () => actions.start() }, "Start a capture"));
  const storage = { bar: h("i", {}), used: h("b", {}), risk: h("p", { class: "note" }), daemon: h("p", { class: "note" }) };

  const update = () => {
    const { status, history } = store;
    if (status === null) return;
    const names = store.ports.map((port) => port.name);
    const now = sorted().filter(active);
    const all = dropTotals();
    verdictShow(verdict, status);
    tilesShow(tiles, status);
    packets.draw(names, history.time, names.map((name) => history.row(`packets ${name}`)));
    traffic.draw(names, history.time, names.map((name) => history.row(`bytes ${name}`)));
    dropsDraw(lost);
    disk.draw(["written"], history.time, [history.row("disk")]);
    portsShow(store.ports);
    dropsShow(all);
    dropTable.hidden = all.length === 0;
    noDrops.hidden = all.length > 0;
    storageShow(storage, status);
    runningShow(now.slice(0, SHOWN));
    more.hidden = now.length <= SHOWN;
    text(more, `All ${count(now.length)} that run`);
    table.hidden = now.length === 0;
    noRunning.hidden = now.length > 0;
  };
  const stop = onChange(update);
  const element = h("div", { class: "view overview" },
    h("h1", { class: "unseen" }, "Overview"),
    h("section", { class: "panel chain", "aria-label": "Bottleneck" }, verdict, h("ol", { class: "tiles" }, Object.values(tiles).map((each) => each.element))),
    h("section", { class: "charts", "aria-label": "Rates" }, packets.element, traffic.element, lost.element, disk.element),
    h("section", { class: "panel" }, h("h2", {}, "Ports"), h("div", { class: "wide" },
      h("table", { class: "dense", "aria-label": "Ports" }, h("thead", {}, h("tr", {}, COLUMNS.map((name, i) => h("th", { scope: "col", class: i >= 2 && i <= 5 ? "n" : "" }, name)))), ports))),
    h("div", { class: "columns" },
      h("section", { class: "panel" }, h("h2", {}, "Running"), h("div", { class: "wide" }, table), more, noRunning),
      h("section", { class: "panel" }, h("h2", {}, "Drops by reason"), dropTable, noDrops),
      h("section", { class: "panel" }, h("h2", {}, "Storage"), h("p", {}, storage.used, " used"), h("div", { class: "meter" }, storage.bar), storage.risk, storage.daemon)));
  update();
  return { element, close() { stop(); for (const chart of [packets, traffic, lost, disk]) chart.close(); } };
}
