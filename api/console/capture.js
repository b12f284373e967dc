// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// One capture: what it is, where its packets went, how fast they come, and the packets themselves.
import * as actions from "./actions.js";
import * as api from "./api.js";
import { progressMeters, stateWords } from "./captures.js";
import { Chart } from "./chart.js";
import { bytesOf, packetDetail } from "./detail.js";
import { h, text, toast } from "./dom.js";
import { byteRate, bytes, count, duration, pps, seconds, when } from "./format.js";
import { ledgerPicture } from "./ledger.js";
import { FileSource, FoundSource, LiveSource, PacketTable, wordsOf } from "./packets.js";
import { closed, dropped, HISTORY, may, onChange, refetch, store } from "./store.js";

const SEARCH_AFTER_MS = 350;

const samplingWords = ({ mode, n }) => ({ none: "every packet", every: `every ${count(n)}th packet`, random: `a random one in ${count(n)}`, flow: `one flow in ${count(n)}` })[mode];

function factsOf(capture) {
  const over = closed(capture);
  const facts = [
    ["Filter", capture.filter ? h("code", {}, capture.filter) : "everything"],
    ["Ports", capture.ports.join(", ")],
    ["Keeps", `${samplingWords(capture.sampling)}, ${capture.snaplen >= 262144 ? "whole" : `${count(capture.snaplen)} bytes each`}${capture.direction === "both" ? "" : `, ${capture.direction === "in" ? "received" : "sent"} only`}`],
    ["Limits", progressMeters(capture)],
    ["Started", `${when(capture.started_at)} by ${capture.owner}${capture.dialect === "native" ? "" : ` (${capture.dialect})`}`],
    [over ? "Took" : "Runs for", duration(seconds(capture.started_at, capture.ended_at))],
    ["Size", `${bytes(capture.size_bytes)} (${count(capture.size_bytes)} bytes)`],
  ];
  if (over && capture.started_at) {
    const took = Math.max(0.001, seconds(capture.started_at, capture.ended_at));
    facts.push(["On average", `${pps(capture.ledger.written / took)}, ${byteRate(capture.size_bytes / took)}`]);
  }
  if (capture.notes) facts.push(["Notes", h("span", { class: "lines" }, capture.notes)]);
  return h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function eventsOf(capture) {
  const rows = (capture.events ?? []).map((event) => h("li", {}, h("time", {}, when(event.at)), " ", event.text));
  if (capture.degraded) rows.unshift(h("li", { class: "bad" }, `Less is kept than was asked for since ${when(capture.degraded.since)}, because the ${capture.degraded.reason} takes no more: snaplen ${count(capture.degraded.to.snaplen)}, ${samplingWords(capture.degraded.to.sampling)}`));
  return rows.length > 0 && h("section", { class: "panel" }, h("h2", {}, "Events"), h("ul", { class: "events" }, rows));
}

export function captureView(id) {
  const element = h("div", { class: "view capture" }, h("p", { class: "empty" }, "Looking for the capture …"));
  let parts = null;
  let over = false;

  const update = () => {
    const capture = store.captures.get(id);
    if (over) return;
    if (capture === undefined) {
      if (parts !== null) gone("This capture was deleted.");
      return;
    }
    parts ??= partsMake(element, id);
    parts.show(capture);
  };
  const gone = (words) => {
    over = true;
    parts?.close();
    element.replaceChildren(h("div", { class: "empty" }, h("p", {}, words), h("a", { href: "#/captures" }, "All captures")));
  };
  const stop = onChange(update);
  update();
  if (parts === null)
    api.get(`captures/${id}`).then((capture) => {
      store.captures.set(id, capture);
      update();
    }, (error) => gone(error.message));
  return { element, close() { stop(); if (!over) parts?.close(); over = true; } };
}

function headMake() {
  const title = h("h1", {});
  const pill = h("span", { class: "pill" });
  const ids = h("small", { class: "mono" });
  const message = h("p", { class: "error" });
  let capture = null;
  const button = (name, act, kind = "") => h("button", { type: "button", class: kind, onclick: () => act(capture) }, name);
  const stop = button("Stop", async (now) => {
    stop.disabled = true;
    await actions.stop(now);
    stop.disabled = false;
  });
  const edit = button("Notes", actions.edit);
  const load = button("Download", (now) => actions.download(now, "pcapng", !closed(now)));
  const pcap = button("as pcap", (now) => actions.download(now, "pcap", false));
  const remove = button("Delete", async (now) => {
    if (await actions.remove(now)) location.hash = "#/captures";
  }, "quiet");
  const element = h("div", {},
    h("div", { class: "bar" }, title, pill, h("span", { class: "spring" }), may("operator") && [stop, edit], load, pcap, may("operator") && remove), ids, message);
  return {
    element,
    show(now) {
      const ended = closed(now);
      capture = now;
      text(title, actions.nameOf(now));
      pill.className = `pill ${now.state}`;
      text(pill, stateWords(now));
      text(ids, now.id);
      text(message, now.message ?? "");
      stop.hidden = now.state !== "running" && now.state !== "starting";
      load.hidden = now.state === "deleted" || now.state === "converting" || now.output.type !== "file";
      text(load, ended ? "Download" : "Download so far");
      pcap.hidden = load.hidden || !ended;
      document.title = `${actions.nameOf(now)} · Sluice`;
    },
  };
}

// The list of packets, its tools and the packet that was chosen.
function packetsMake(id) {
  const detail = h("div", {});
  const words = h("input", { type: "search", id: "packet-words", placeholder: "words: tcp 10.0.0.1 -ack", "aria-label": "Filter packets by words" });
  const mode = h("div", { class: "tabs", role: "group", "aria-label": "Which packets" });
  const note = h("span", { class: "note", role: "status" });
  const go = h("input", { inputmode: "numeric", class: "go", placeholder: "No.", "aria-label": "Go to packet number" });
  const follow = h("button", { type: "button", class: "chip" }, "Follow");
  let live = null;
  let of = null; // the capture, as last shown
  let tab = null;
  let timer = 0;
  let asked = 0;

  const choose = async (packet) => {
    const ticket = ++asked;
    const close = () => {
      asked++;
      detail.replaceChildren();
      table.viewport.focus();
    };
    try {
      const whole = packet.data === undefined ? await api.get(`captures/${id}/packets/${packet.number}`) : { data: packet.data, ...(await api.post("packets/decode", { data: packet.data })) };
      if (ticket !== asked) return;
      detail.replaceChildren(packetDetail({ ...packet, ...whole }, whole.layers, bytesOf(whole.data), close));
    } catch (error) {
      toast(error.message, true);
    }
  };
  const table = new PacketTable(choose, () => tell());

  const tell = () => {
    const { source } = table;
    follow.hidden = !source?.live;
    follow.setAttribute("aria-pressed", String(table.follow));
    go.hidden = !(source instanceof FileSource);
    if (source?.error) text(note, source.error);
    else if (source instanceof LiveSource) text(note, `${count(source.shownCount)} shown, ${count(source.skipped)} skipped${source.words.length > 0 ? `; ${count(source.total)} of the last ${count(source.all.length)} match` : ""}`);
    else if (source instanceof FoundSource) text(note, `${count(source.total)} found in ${source.next === null ? "all" : `the first ${count(source.next)} of`} ${count(source.of ?? 0)} packets${source.busy ? " …" : ""}`);
    else if (source) text(note, `${count(source.total)} packets`);
  };
  const select = (name) => {
    tab = name;
    detail.replaceChildren();
    for (const each of mode.children) each.setAttribute("aria-pressed", String(each.dataset.tab === name));
    look();
  };
  const look = () => {
    const line = words.value.trim();
    if (tab === "live") {
      live.find(wordsOf(line));
      if (table.source !== live) table.show(live, true);
    } else if (line) {
      table.show(new FoundSource(id, line), false);
    } else {
      table.show(new FileSource(id, of.ledger.written), false);
    }
  };
  words.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, SEARCH_AFTER_MS);
  });
  go.addEventListener("change", () => {
    const n = Number(go.value.replaceAll(",", ""));
    if (!Number.isInteger(n) || n < 1 || n > table.source.total) {
      go.setAttribute("aria-invalid", "true");
      toast(`"${go.value}" is no packet: 1 to ${count(table.source.total)}`, true);
      return;
    }
    go.removeAttribute("aria-invalid");
    table.current = n - 1;
    table.moveTo(n - 1 - table.seen / 3);
  });
  follow.addEventListener("click", () => {
    table.follow = !table.follow;
    table.draw();
  });
  const tabMake = (name, title) => {
    const button = h("button", { type: "button", onclick: () => select(name) }, title);
    button.dataset.tab = name;
    return button;
  };
  const element = h("section", { class: "panel flush packet-panel", "aria-label": "Packets" },
    h("div", { class: "bar" }, h("h2", {}, "Packets"), mode, words, go, follow, h("span", { class: "spring" }), note), table.element, detail);
  return {
    element,
    table,
    show(capture, source) {
      of = capture;
      live = source;
      element.hidden = capture.state === "deleted" || (capture.output.type !== "file" && live === null);
      if (element.hidden) return;
      if (live !== null && tab === null) {
        mode.replaceChildren(tabMake("live", "Live"), capture.output.type === "file" ? tabMake("file", "Written so far") : "");
        select("live");
      } else if (live === null && tab !== "done" && closed(capture)) {
        mode.replaceChildren();
        select("done");
      }
      if (table.source instanceof FileSource) table.source.grow(capture.ledger.written);
    },
    close() {
      clearTimeout(timer);
      table.close();
    },
  };
}

function partsMake(element, id) {
  const head = headMake();
  const facts = h("section", { class: "panel", "aria-label": "Facts" });
  const ledger = h("section", { class: "panel", "aria-label": "Ledger" }, h("h2", {}, "Where its packets went"));
  const picture = h("div", {});
  const chart = new Chart("Accepted, packets a second", pps);
  const traffic = new Chart("Written", byteRate);
  const charts = h("section", { class: "charts two", "aria-label": "Rates" }, chart.element, traffic.element);
  const events = h("div", {});
  const packets = packetsMake(id);
  const time = [];
  const rates = [[], []];
  let live = null;
  let drawn = "";
  let heard = "";

  ledger.append(picture);
  element.replaceChildren(head.element, h("div", { class: "columns facts-ledger" }, facts, ledger), charts, packets.element, events);

  const rate = (first, second) => {
    time.push(Date.now() / 1000);
    rates[0].push(first);
    rates[1].push(second);
    if (time.length > HISTORY) [time, ...rates].forEach((list) => list.shift());
    chart.draw(["accepted"], time, [rates[0]]);
    traffic.draw(["written"], time, [rates[1]]);
  };
  const told = (message) => {
    if (message.event === "rates") rate(message.packets_per_second, message.bytes_per_second);
    if (message.event === "subscribed" && time.length > 0) rate(null, null);
    if (message.event === "end" || message.event === "error") refetch(id);
  };
  const show = (capture) => {
    const running = capture.state === "running";
    if (running && live === null) live = new LiveSource(id, told);
    if (!running && closed(capture) && live !== null) {
      live.stop();
      live = null;
    }
    head.show(capture);
    charts.hidden = time.length === 0 && !running;
    const now = JSON.stringify([capture.ledger, capture.state]);
    if (now !== drawn) picture.replaceChildren(ledgerPicture(capture.ledger, !closed(capture)));
    drawn = now;
    facts.replaceChildren(h("h2", {}, "What it is"), factsOf(capture));
    const news = JSON.stringify([capture.events, capture.degraded]);
    if (news !== heard) events.replaceChildren(eventsOf(capture) || "");
    heard = news;
    packets.show(capture, live);
  };
  return {
    show,
    close() {
      live?.stop();
      chart.close();
      traffic.close();
      packets.close();
    },
  };
}
