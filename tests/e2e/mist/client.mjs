// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// A packet capture as mistapi's utilities do it: start over REST, only then open the WebSocket, wait for
// the channel's acknowledgement, collect until pcap_dict is null; ping meanwhile. Prints what it got.
//
//   SLUICE_URL=.. SLUICE_TOKEN=.. MIST_SITE=.. node client.mjs
import assert from "node:assert/strict";
import WebSocket from "ws";

const { SLUICE_URL: url, SLUICE_TOKEN: token, MIST_SITE: site } = process.env;
assert(url && token && site, "SLUICE_URL, SLUICE_TOKEN and MIST_SITE must be set");
const headers = { Authorization: `Token ${token}`, Accept: "application/vnd.api+json, application/json" };
const ACK_MS = 10_000;

const self = await (await fetch(`${url}/api/v1/self`, { headers })).json();
assert(self.privileges.length > 0, "a token without privileges is dropped");

const trigger = await fetch(`${url}/api/v1/sites/${site}/pcaps/capture`, {
  method: "POST",
  headers: { ...headers, "Content-Type": "application/json" },
  body: JSON.stringify({ type: "wired", duration: 60, num_packets: 300, max_pkt_len: 128, band: "24" }),
});
assert.equal(trigger.status, 200);
const started = await trigger.json();
assert.match(started.id, /^[0-9a-f-]{36}$/);
// The gap in which packets would be lost if nobody kept them.
await new Promise((wake) => setTimeout(wake, 300));

const channel = `/sites/${site}/pcaps`;
const socket = new WebSocket(`${url.replace("http", "ws")}/api-ws/v1/stream`, {
  headers: { Authorization: `Token ${token}` },
  origin: "http://localhost",
});
const messages = [];
let pongs = 0;
const end = await new Promise((resolve, reject) => {
  const late = setTimeout(() => reject(new Error("no channel_subscribed in 10 s")), ACK_MS);
  socket.on("open", () => socket.send(JSON.stringify({ subscribe: channel })));
  socket.on("pong", () => pongs++);
  socket.on("error", reject);
  socket.on("close", (code, reason) => reject(new Error(`closed ${code} ${reason}`)));
  socket.on("message", (data, isBinary) => {
    assert(!isBinary, "text frames only");
    const message = JSON.parse(data);
    assert.equal(message.channel, channel);
    if (message.event === "channel_subscribed") {
      clearTimeout(late);
      socket.ping();
      return;
    }
    assert.equal(message.event, "data");
    assert("pcap_dict" in message.data, "without pcap_dict a client takes it for the end");
    if (message.data.capture_id !== started.id) return;
    if (message.data.pcap_dict === null) resolve(message.data);
    else messages.push(message.data);
  });
});
assert.equal(end.pcap_raw, undefined);
while (pongs === 0) await new Promise((wake) => setTimeout(wake, 10));
socket.removeAllListeners("close");
socket.close(1000);
await new Promise((wake) => socket.once("close", wake));
console.log(JSON.stringify({ started, end, messages }));
