// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// What is known of the daemon: who we are, its status, ports and captures, and five minutes of rates, which
// stay while views come and go. Fed by the WebSocket once a second and by REST where that says nothing:
// captures that are over.
import * as api from "./api.js";
import { Series } from "./series.js";
import * as stream from "./stream.js";

const PAGE = 200;
const HISTORIES = 64; // captures
const SHOWN_RUNNING = 32; // the stream's status has no more
const RELIST_MS = 30000;
const REFRESH_MS = 5 * 60000; // keeps the sign-in from ending while somebody looks

export const active = (capture) => ["starting", "running", "stopping"].includes(capture.state);
// Its file is finished, though an upload may not be.
export const whole = (capture) => ["uploading", "complete", "failed"].includes(capture.state);
export const closed = (capture) => ["complete", "failed", "deleted"].includes(capture.state);
// There is a file, or will be: to download, and to list packets of.
export const hasFile = (capture) => capture.state !== "deleted" && (capture.upload?.local ?? capture.output.type === "file");
export const dropped = (ledger) => Object.values(ledger.dropped).reduce((sum, n) => sum + n, 0);

export const store = {
  who: null,
  status: null,
  ports: [],
  captures: new Map(), // by id
  more: null, // cursor of the captures not fetched yet
  listed: false,
  rates: new Map(), // of captures: {packets, bytes, dropped} a second
  portRates: new Map(), // by name: {packets, bytes, lost} a second
  history: new Series(), // "packets PORT", "bytes PORT", "disk", "drop REASON", "drop nic_missed PORT"
  histories: new Map(), // of captures, by id: "packets", "bytes", "drop REASON"
};

const listeners = new Set();
export function onChange(call) {
  listeners.add(call);
  return () => listeners.delete(call);
}
const changed = (what) => listeners.forEach((call) => call(what));

const RANK = { viewer: 1, operator: 2, admin: 3 };
export const may = (role) => store.who !== null && RANK[store.who.role] >= RANK[role];

let last = null; // the status message before, and when it came
let asked = new Set(); // captures that are being fetched
let deeper = false; // than the first page somebody has looked
let timers = [];
let unsubscribe = () => {};
let unwatch = () => {};

export function begin(who) {
  store.who = who;
  unsubscribe = stream.subscribe({ subscribe: "status" }, heard);
  unwatch = stream.onState((state) => {
    if (state !== "live") return;
    last = null; // what was missed is a gap, not a rate
    relist();
  });
  stream.start();
  relist();
  timers = [setInterval(relist, RELIST_MS), setInterval(() => api.get("session").catch(() => {}), REFRESH_MS)];
}

export function end() {
  timers.forEach(clearInterval);
  unsubscribe();
  unwatch();
  stream.stop();
  last = null;
  deeper = false;
  Object.assign(store, { who: null, status: null, ports: [], more: null, listed: false });
  for (const map of [store.captures, store.rates, store.portRates, store.history, store.histories]) map.clear();
}

// The newest captures; those further down stay as they are known.
export async function relist() {
  let page;
  try {
    page = await api.get(`captures?limit=${PAGE}`);
  } catch {
    return;
  }
  const there = new Set(page.captures.map((capture) => capture.id));
  const oldest = page.captures.at(-1)?.created_at ?? "";
  for (const [id, capture] of store.captures)
    if (!there.has(id) && (page.next === null || capture.created_at > oldest)) store.captures.delete(id);
  // Between what is new and what was listed further down there may be others if nothing of the page was known.
  const joined = deeper && page.captures.some((capture) => store.captures.has(capture.id));
  for (const capture of page.captures) store.captures.set(capture.id, capture);
  if (!joined || page.next === null) store.more = page.next;
  store.listed = true;
  changed("captures");
}

export async function listMore() {
  const page = await api.get(`captures?limit=${PAGE}&cursor=${store.more}`);
  for (const capture of page.captures) store.captures.set(capture.id, capture);
  store.more = page.next;
  deeper = true;
  changed("captures");
}

export function learn(capture) {
  store.captures.set(capture.id, capture);
  changed("captures");
}

export function forget(id) {
  store.captures.delete(id);
  changed("captures");
}

export async function refetch(id) {
  if (asked.has(id)) return;
  asked.add(id);
  try {
    learn(await api.get(`captures/${id}`));
  } catch (error) {
    if (error.status === 404) forget(id);
  } finally {
    asked.delete(id);
  }
}

// Newest first.
export const sorted = () => [...store.captures.values()].sort((a, b) => (a.created_at < b.created_at ? 1 : -1));

const rise = (now, before, passed) => Math.max(0, (now - before) / passed);

// By reason: {"drop REASON": a second}, of those that ever had one.
function dropRates(now, before, passed) {
  const rates = {};
  for (const [reason, n] of Object.entries(now)) if (n > 0) rates[`drop ${reason}`] = rise(n, before[reason] ?? 0, passed);
  return rates;
}

function heard(message) {
  if (message.event !== "status") return;
  // By the daemon's clock, which knows nothing of how long the message was on its way.
  const now = Date.parse(message.time);
  const passed = last === null || now <= last.at ? 0 : (now - last.at) / 1000;
  store.status = message.status;
  store.ports = message.ports;
  // A gap in what we know is a gap in the picture.
  if (passed === 0) for (const series of [store.history, ...store.histories.values()]) if (series.time.length > 0) series.push(now / 1000 - 0.5, {});
  takeCaptures(message.captures, now / 1000, passed);
  takePorts(message.ports, passed);
  if (passed > 0) store.history.push(now / 1000, ratesOf(message, passed));
  last = {
    at: now,
    dropped: message.status.dropped,
    captures: new Map(message.captures.map((capture) => [capture.id, capture])),
    ports: new Map(message.ports.map((port) => [port.name, port.counters])),
  };
  changed("status");
}

// A capture's rates of one second. Of captures that nobody saw for long there is no history.
export function remember(id, stamp, values) {
  const { histories } = store;
  if (!histories.has(id)) {
    histories.set(id, new Series());
    if (histories.size > HISTORIES) histories.delete([...histories.keys()].find((each) => !store.rates.has(each)) ?? histories.keys().next().value);
  }
  histories.get(id).push(stamp, values);
}

function takeCaptures(captures, stamp, passed) {
  const there = new Set();
  for (const capture of captures) {
    const before = last?.captures.get(capture.id);
    there.add(capture.id);
    store.captures.set(capture.id, capture);
    if (!before || passed === 0 || !active(before)) continue;
    const rate = {
      packets: rise(capture.ledger.accepted, before.ledger.accepted, passed),
      bytes: rise(capture.size_bytes, before.size_bytes, passed),
      dropped: rise(dropped(capture.ledger), dropped(before.ledger), passed),
    };
    store.rates.set(capture.id, rate);
    remember(capture.id, stamp, { packets: rate.packets, bytes: rate.bytes, ...dropRates(capture.ledger.dropped, before.ledger.dropped, passed) });
  }
  for (const id of store.rates.keys()) if (!there.has(id)) store.rates.delete(id);
  if (captures.length < SHOWN_RUNNING)
    for (const capture of store.captures.values()) if (!closed(capture) && !there.has(capture.id)) refetch(capture.id);
}

export const LOST = ["nic_missed", "nic_errors", "nic_nombuf"];

function takePorts(ports, passed) {
  for (const port of ports) {
    const before = last?.ports.get(port.name);
    if (!before || passed === 0) continue;
    const now = port.counters;
    store.portRates.set(port.name, {
      packets: rise(now.offered, before.offered, passed),
      bytes: rise(now.rx_bytes, before.rx_bytes, passed),
      ...Object.fromEntries(LOST.map((name) => [name, rise(now[name], before[name], passed)])),
    });
  }
}

function ratesOf(message, passed) {
  const values = { disk: message.status.resources.disk.bytes_per_second, ...dropRates(message.status.dropped, last.dropped, passed) };
  for (const { name, counters } of message.ports) {
    const rate = store.portRates.get(name);
    if (!rate) continue;
    values[`packets ${name}`] = rate.packets;
    values[`bytes ${name}`] = rate.bytes;
    for (const lost of LOST) if (counters[lost] > 0) values[`drop ${lost} ${name}`] = rate[lost];
  }
  return values;
}
