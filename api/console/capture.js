// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// One capture: what it is, where its packets went, how fast they come, and the packets themselves.
import * as actions from "./actions.js";
import * as api from "./api.js";
import { progressMeters, progressOf, stateWords } from "./captures.js";
import { Chart } from "./chart.js";
import { bytesOf, packetDetail } from "./detail.js";
import { h, keyed, text, toast, toggle } from "./dom.js";
import { byteRate, bytes, count, duration, percent, pps, seconds, when } from "./format.js";
import { ledgerMake, reasonWords } from "./ledger.js";
import { FileSource, FoundSource, LiveSource, PacketTable, wordsOf } from "./packets.js";
import { closed, hasFile, may, onChange, refetch, remember, store, whole } from "./store.js";

const SEARCH_AFTER_MS = 350;

const samplingWords = ({ mode, n }) => ({ none: "every packet", every: `every ${count(n)}th packet`, random: `a random one in ${count(n)}`, flow: `one flow in ${count(n)}` })[mode];

function uploadWords({ state, bytes: sent, total_bytes, attempts, message, next_at, local }) {
  const why = message ? `: ${message}` : "";
  if (state === "none") return "once its file is closed";
  if (state === "waiting") return attempts > 0 ? `tried ${count(attempts)} times, again ${next_at ? `at ${when(next_at)}` : "soon"}${why}` : "waiting for its turn";
  if (state === "sending") return `${percent(sent, total_bytes)} of ${bytes(total_bytes)} sent`;
  if (state === "failed") return `given up after ${count(attempts)} attempts${why}; the file stays here`;
  return `verified there${local ? "" : "; the file here is gone"}`;
}

function whereTo({ output, upload }) {
  if (output.type === "s3") return [h("code", {}, upload.url), h("small", { class: "lines" }, uploadWords(upload))];
  if (output.type === "stream") return `${output.address}, UDP port ${output.port}, in ${output.encapsulation.toUpperCase()}`;
  return output.type === "none" ? "nowhere: packets are counted" : "a file here";
}

// [name, words], or [name, () => elements, what they are made of].
function factsOf(capture) {
  const over = closed(capture);
  const { sampling, snaplen, direction } = capture;
  const facts = [
    ["Filter", () => (capture.filter ? h("code", {}, capture.filter) : "everything"), capture.filter],
    ["Ports", capture.ports.join(", ")],
    ["Keeps", `${samplingWords(sampling)}${sampling.rate_pps ? `, at most ${count(sampling.rate_pps)} a second` : ""}, ${snaplen >= 262144 ? "whole" : `${count(snaplen)} bytes each`}${direction === "both" ? "" : `, ${direction === "in" ? "received" : "sent"} only`}`],
    ["Limits", () => progressMeters(capture), JSON.stringify(progressOf(capture))],
    ["Goes to", () => whereTo(capture), JSON.stringify([capture.output, capture.upload])],
    ["Started", `${when(capture.started_at)} by ${capture.owner}${capture.dialect === "native" ? "" : ` (${capture.dialect})`}`],
    [capture.ended_at ? "Took" : "Runs for", duration(seconds(capture.started_at, capture.ended_at))],
    ["Size", `${bytes(capture.size_bytes)} (${count(capture.size_bytes)} bytes)`],
  ];
  if (over && capture.started_at) {
    const took = Math.max(0.001, seconds(capture.started_at, capture.ended_at));
    facts.push(["On average", `${pps(capture.ledger.written / took)}, ${byteRate(capture.size_bytes / took)}`]);
  }
  if (capture.notes) facts.push(["Notes", () => h("span", { class: "lines", dir: "auto" }, capture.notes), capture.notes]);
  return facts;
}

function factRow([name]) {
  const value = h("dd", {});
  let known;
  return {
    element: h("div", {}, h("dt", {}, name), value),
    show([, what, key = what]) {
      if (key !== known) value.replaceChildren(...[typeof what === "string" ? what : what()].flat());
      known = key;
    },
  };
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
  const title = h("h1", { dir: "auto", class: "clamped" });
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
  const load = button("Download", (now) => actions.download(now, "pcapng", !whole(now)));
  const pcap = button("as pcap", (now) => actions.download(now, "pcap", false));
  const remove = button("Delete", async (now) => {
    if (await actions.remove(now)) location.hash = "#/captures";
  }, "quiet");
  const element = h("div", {},
    h("div", { class: "bar" }, title, pill, h("span", { class: "spring" }), may("operator") && [stop, edit], load, pcap, may("operator") && remove), ids, message);
  return {
    element,
    show(now) {
      const ended = whole(now);
      capture = now;
      text(title, actions.nameOf(now));
      pill.className = `pill ${now.state}`;
      text(pill, stateWords(now));
      text(ids, now.id);
      text(message, now.message ?? "");
      stop.hidden = now.state !== "running" && now.state !== "starting";
      load.hidden = !hasFile(now) || now.state === "converting";
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
  const note = h("span", { class: "note" });
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
      if (live !== null && tab === null) {
        mode.replaceChildren(tabMake("live", "Live"), hasFile(capture) ? tabMake("file", "Written so far") : "");
        select("live");
      } else if (live === null && tab !== "done" && whole(capture) && hasFile(capture)) {
        mode.replaceChildren();
        select("done");
      }
      element.hidden = table.source === null || (live === null && !hasFile(capture));
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
  const list = h("dl", { class: "facts" });
  const factsShow = keyed(list, ([name]) => name, factRow);
  const facts = h("section", { class: "panel", "aria-label": "Facts" }, h("h2", {}, "What it is"), list);
  const ledger = h("section", { class: "panel", "aria-label": "Ledger" }, h("h2", {}, "Where its packets went"));
  const picture = ledgerMake();
  const chart = new Chart("Accepted, packets a second", pps);
  const traffic = new Chart("Written", byteRate);
  const lost = new Chart("Dropped, packets a second", pps);
  const charts = h("section", { class: "charts two", "aria-label": "Rates" }, chart.element, traffic.element, lost.element);
  const events = h("div", {});
  const packets = packetsMake(id);
  let live = null;
  let drawn = "";
  let heard = "";

  ledger.append(picture.element);
  element.replaceChildren(head.element, h("div", { class: "columns facts-ledger" }, facts, ledger), charts, packets.element, events);

  // What the status does not tell, with very many captures, the capture's own news do.
  const told = (message) => {
    if (message.event === "rates" && !store.rates.has(id)) remember(id, Date.now() / 1000, { packets: message.packets_per_second, bytes: message.bytes_per_second });
    if (message.event === "end" || message.event === "error") refetch(id);
  };
  const draw = (running) => {
    const series = store.histories.get(id);
    charts.hidden = series === undefined && !running;
    if (series === undefined) return;
    const reasons = series.alive("drop ").sort();
    chart.draw(["accepted"], series.time, [series.row("packets")]);
    traffic.draw(["written"], series.time, [series.row("bytes")]);
    lost.element.hidden = reasons.length === 0;
    toggle(charts, "two", reasons.length === 0);
    toggle(charts, "three", reasons.length > 0);
    if (reasons.length > 0) lost.draw(reasons.map((name) => reasonWords(name.slice(5))), series.time, reasons.map((name) => series.row(name)));
  };
  const show = (capture) => {
    const running = capture.state === "running";
    if (running && live === null) live = new LiveSource(id, told);
    if (!running && closed(capture) && live !== null) {
      live.stop();
      live = null;
    }
    head.show(capture);
    draw(running);
    const now = JSON.stringify([capture.ledger, capture.state]);
    if (now !== drawn) picture.show(capture.ledger, !closed(capture));
    drawn = now;
    factsShow(factsOf(capture));
    const news = JSON.stringify([capture.events, capture.degraded]);
    if (news !== heard) events.replaceChildren(eventsOf(capture) || "");
    heard = news;
    packets.show(capture, live);
  };
  return {
    show,
    close() {
      live?.stop();
      for (const each of [chart, traffic, lost, packets]) each.close();
    },
  };
}
