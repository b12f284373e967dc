// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// One WebSocket for the whole page. It is made again whenever it is lost, and then everything that is
// still wanted is subscribed to anew. What an old socket may still deliver is not listened to, so nothing
// is ever heard twice.
import { socketAt } from "./api.js";

const SILENCE_MS = 6000; // status comes every second
const WAIT_MS = [300, 1000, 2000, 4000, 8000];

const wanted = new Map(); // key -> {command, undo, hear}
const watchers = new Set();
let refused = () => {};
let socket = null;
let tries = 0;
let timer = 0;
let heardAt = 0;
let running = false;

// "off", "connecting", "live" or "lost".
export let state = "off";
export let lostAt = 0;

function become(next) {
  if (state === next) return;
  if (next === "lost") lostAt = Date.now();
  const before = state;
  state = next;
  for (const call of watchers) call(next, before);
}

export function onState(call) {
  watchers.add(call);
  return () => watchers.delete(call);
}

// Called whenever a connection could not be made: the daemon is away, or does not let us in.
export const onRefused = (call) => (refused = call);

const keyOf = (message) => message.id ?? "status";

function hear(own, event) {
  if (own !== socket) return;
  heardAt = Date.now();
  const message = JSON.parse(event.data);
  if (message.event === "error") {
    for (const each of wanted.values()) each.hear(message);
    return;
  }
  wanted.get(keyOf(message))?.hear(message);
}

function lose(own) {
  if (own !== socket) return;
  socket = null;
  if (!running) return;
  become("lost");
  refused();
  const wait = WAIT_MS[Math.min(tries++, WAIT_MS.length - 1)];
  clearTimeout(timer);
  timer = setTimeout(connect, wait * (0.75 + Math.random() / 2));
}

function connect() {
  const own = (socket = new WebSocket(socketAt("stream"), ["sluice.v1"]));
  own.onopen = () => {
    if (own !== socket) return;
    tries = 0;
    heardAt = Date.now();
    for (const { command } of wanted.values()) own.send(JSON.stringify(command));
    become("live");
  };
  own.onmessage = (event) => hear(own, event);
  own.onclose = () => lose(own);
  own.onerror = () => lose(own);
}

// A connection that is open but says nothing is lost as well.
setInterval(() => {
  if (state !== "live" || !wanted.has("status") || Date.now() - heardAt < SILENCE_MS) return;
  const silent = socket;
  lose(silent);
  silent.close();
}, 1000);

addEventListener("online", () => {
  if (running && socket === null) {
    clearTimeout(timer);
    connect();
  }
});

export function start() {
  if (running) return;
  running = true;
  tries = 0;
  become("connecting");
  connect();
}

export function stop() {
  running = false;
  clearTimeout(timer);
  const own = socket;
  socket = null;
  own?.close();
  wanted.clear();
  become("off");
}

// hear(message) gets what comes for it, from now on and after every reconnection. Returns how to end it.
export function subscribe(command, hearIt) {
  const key = command.id ?? "status";
  const { subscribe: subject, id } = command;
  wanted.set(key, { command, hear: hearIt });
  if (state === "live") socket.send(JSON.stringify(command));
  return () => {
    if (wanted.get(key)?.hear !== hearIt) return;
    wanted.delete(key);
    if (state === "live") socket.send(JSON.stringify({ unsubscribe: subject, ...(id && { id }) }));
  };
}
