// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// What is known of the daemon: who we are, its status, ports and captures, and five minutes of rates.
// Fed by the WebSocket once a second and by REST where that says nothing: captures that are over.
import * as api from "./api.js";
import * as stream from "./stream.js";

export const HISTORY = 300; // seconds
const PAGE = 200;
const SHOWN_RUNNING = 32; // the stream's status has no more
const RELIST_MS = 30000;
const REFRESH_MS = 5 * 60000; // keeps the sign-in from ending while somebody looks

export const closed = (capture) => ["complete", "failed", "deleted"].includes(capture.state);
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
  history: { time: [], ports: new Map(), disk: [], drops: [] },
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
  Object.assign(store, { who: null, status: null, ports: [], more: null, listed: false });
  for (const map of [store.captures, store.rates, store.portRates, store.history.ports]) map.clear();
  store.history.time.length = store.history.disk.length = store.history.drops.length = 0;
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
  for (const capture of page.captures) store.captures.set(capture.id, capture);
  if (!store.listed || page.next === null) store.more = page.next;
  store.listed = true;
  changed("captures");
}

export async function listMore() {
  const page = await api.get(`captures?limit=${PAGE}&cursor=${store.more}`);
  for (const capture of page.captures) store.captures.set(capture.id, capture);
  store.more = page.next;
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

function heard(message) {
  if (message.event !== "status") return;
  // By the daemon's clock, which knows nothing of how long the message was on its way.
  const now = Date.parse(message.time);
  const passed = last === null || now <= last.at ? 0 : (now - last.at) / 1000;
  store.status = message.status;
  store.ports = message.ports;
  takeCaptures(message.captures, passed);
  takePorts(message.ports, passed);
  remember(message, passed);
  last = {
    at: now,
    captures: new Map(message.captures.map((capture) => [capture.id, capture])),
    ports: new Map(message.ports.map((port) => [port.name, port.counters])),
  };
  changed("status");
}

function takeCaptures(captures, passed) {
  const there = new Set();
  for (const capture of captures) {
    const before = last?.captures.get(capture.id);
    there.add(capture.id);
    store.captures.set(capture.id, capture);
    if (before && passed > 0)
      store.rates.set(capture.id, {
        packets: rise(capture.ledger.accepted, before.ledger.accepted, passed),
        bytes: rise(capture.size_bytes, before.size_bytes, passed),
        dropped: rise(dropped(capture.ledger), dropped(before.ledger), passed),
      });
  }
  for (const id of store.rates.keys()) if (!there.has(id)) store.rates.delete(id);
  if (captures.length < SHOWN_RUNNING)
    for (const capture of store.captures.values()) if (!closed(capture) && !there.has(capture.id)) refetch(capture.id);
}

const LOST = ["nic_missed", "nic_errors", "nic_nombuf"];

function takePorts(ports, passed) {
  for (const port of ports) {
    const before = last?.ports.get(port.name);
    if (!before || passed === 0) continue;
    const now = port.counters;
    store.portRates.set(port.name, {
      packets: rise(now.offered, before.offered, passed),
      bytes: rise(now.rx_bytes, before.rx_bytes, passed),
      lost: LOST.reduce((sum, name) => sum + rise(now[name], before[name], passed), 0),
    });
  }
}

function remember(message, passed) {
  const { history } = store;
  const stamp = Date.parse(message.time) / 1000;
  // A gap in what we know is a gap in the picture.
  if (passed === 0 && history.time.length > 0) push(stamp - 0.5, () => null);
  if (passed === 0) return;
  push(stamp, (name, what) => store.portRates.get(name)?.[what] ?? null, message.status.resources.disk.bytes_per_second,
    [...store.rates.values()].reduce((sum, rate) => sum + rate.dropped, 0));
}

function push(stamp, rateOf, disk = null, drops = null) {
  const { history } = store;
  const n = history.time.push(stamp);
  history.disk.push(disk);
  history.drops.push(drops);
  for (const { name } of store.ports) {
    if (!history.ports.has(name)) history.ports.set(name, { packets: Array(n - 1).fill(null), bytes: Array(n - 1).fill(null) });
    const own = history.ports.get(name);
    own.packets.push(rateOf(name, "packets"));
    own.bytes.push(rateOf(name, "bytes"));
  }
  if (n <= HISTORY) return;
  for (const list of [history.time, history.disk, history.drops]) list.shift();
  for (const own of history.ports.values()) {
    own.packets.shift();
    own.bytes.shift();
  }
}
