// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// Drives Sluice's Cloudflare dialect with Cloudflare's own client, unpatched, only its base URL points
// here. Prints one JSON object of what it saw; the first expectation that does not hold ends it with 1.
//
//   node client.mjs [URL TOKEN ACCOUNT]     or SLUICE_URL, SLUICE_TOKEN, CLOUDFLARE_ACCOUNT
//
// Needs a port that carries packets all the time, and an account with colo ord02.
import assert from "node:assert/strict";
import Cloudflare from "cloudflare";

const url = process.argv[2] ?? process.env.SLUICE_URL;
const token = process.argv[3] ?? process.env.SLUICE_TOKEN;
const account_id = process.argv[4] ?? process.env.CLOUDFLARE_ACCOUNT ?? "023e105f4ecef8ad9ca31a8372d0c353";
assert(url && token, "usage: client.mjs URL TOKEN [ACCOUNT]");

const baseURL = `${url.replace(/\/$/, "")}/client/v4`;
const READY_MS = 60_000;
let requests = 0;

const counted = (...args) => {
  requests++;
  return fetch(...args);
};
const client = new Cloudflare({ apiToken: token, baseURL, fetch: counted });
const byKey = new Cloudflare({ apiToken: null, apiKey: token, apiEmail: "me@example.com", baseURL });
const stranger = new Cloudflare({ apiToken: "wrong", baseURL });
const pcaps = client.magicTransit.pcaps;

/** Waits until the capture is what it will stay. */
async function ready(id) {
  const end = Date.now() + READY_MS;
  for (;;) {
    const pcap = await pcaps.get(id, { account_id });
    if (["success", "failed"].includes(pcap.status)) return pcap;
    assert(Date.now() < end, `${id} is ${pcap.status} after ${READY_MS} ms`);
    await new Promise((wake) => setTimeout(wake, 100));
  }
}

/** Number of packets in a little-endian classic pcap, and the most bytes that one has. */
function pcapCount(bytes) {
  const view = new DataView(bytes);
  assert.equal(view.getUint32(0, true), 0xa1b2c3d4, "classic pcap with microseconds");
  let packets = 0;
  let longest = 0;
  let at = 24;
  for (; at < view.byteLength; packets++) {
    const length = view.getUint32(at + 8, true);
    longest = Math.max(longest, length);
    at += 16 + length;
  }
  assert.equal(at, view.byteLength, "the last packet is whole");
  return { packets, longest };
}

/** The capture's file, as the client hands it out. */
async function download(id) {
  const answer = await pcaps.download.get(id, { account_id });
  assert.equal(answer.headers.get("content-type"), "application/vnd.tcpdump.pcap");
  return pcapCount(await answer.arrayBuffer());
}

/** Runs ask, which must fail with this class, status and code, in one request. */
async function refused(ask, kind, status, code) {
  const before = requests;
  try {
    await ask();
  } catch (error) {
    assert(error instanceof kind, `${error}`);
    assert.equal(error.status, status);
    assert.equal(error.errors?.[0]?.code, code, JSON.stringify(error.errors));
    assert(requests - before <= 1, "the client asked again");
    return { status, code, message: error.errors[0].message };
  }
  throw new Error(`was not refused with ${status}`);
}

const common = { account_id, system: "magic-transit" };
const wanted = {
  simple: { ...common, type: "simple", time_limit: 20, packet_limit: 20 },
  full: {
    ...common,
    type: "full",
    time_limit: 300,
    byte_limit: 500_000_000,
    colo_name: "ord02",
    destination_conf: "s3://pcaps-bucket?region=us-east-1",
    filter_v1: {},
  },
};

const simple = await pcaps.create(wanted.simple);
const full = await pcaps.create(wanted.full);
for (const [made, asked] of [
  [simple, wanted.simple],
  [full, wanted.full],
]) {
  assert.match(made.id, /^[0-9a-f]{32}$/);
  assert.equal(made.status, "pending");
  assert.equal(made.type, asked.type);
  assert.equal(made.time_limit, asked.time_limit);
  assert.deepEqual(made.filter_v1, {});
  assert(!Number.isNaN(Date.parse(made.submitted)));
}

const listed = [];
for await (const pcap of pcaps.list({ account_id })) listed.push(pcap.id);
assert.deepEqual(listed.slice(0, 2), [full.id, simple.id], "newest first");

const running = await pcaps.get(full.id, { account_id });
assert(["pending", "running"].includes(running.status), running.status);
const unfinished = await refused(
  () => pcaps.download.get(full.id, { account_id }),
  Cloudflare.ConflictError,
  409,
  1409,
);
await new Promise((wake) => setTimeout(wake, 1000));
await pcaps.stop(full.id, { account_id });

const done = { simple: await ready(simple.id), full: await ready(full.id) };
assert.equal(done.simple.status, "success");
assert.equal(done.full.status, "success");
assert(!Number.isNaN(Date.parse(done.full.stop_requested)));
assert.equal(done.full.destination_conf, wanted.full.destination_conf);

const files = { simple: await download(simple.id), full: await download(full.id) };
assert(files.simple.packets <= wanted.simple.packet_limit);
assert(files.simple.longest <= 160);
assert(files.full.packets > 0);
assert.equal(files.full.packets, done.full.packets_captured);

const errors = {
  unfinished,
  field: await refused(
    () => pcaps.create({ ...wanted.simple, packet_limit: 0 }),
    Cloudflare.BadRequestError,
    400,
    1400,
  ),
  stopSimple: await refused(
    () => pcaps.stop(simple.id, { account_id }),
    Cloudflare.BadRequestError,
    400,
    1400,
  ),
  unknown: await refused(
    () => pcaps.get("0".repeat(32), { account_id }),
    Cloudflare.NotFoundError,
    404,
    1404,
  ),
  account: await refused(
    () => pcaps.get(simple.id, { account_id: "f".repeat(32) }),
    Cloudflare.NotFoundError,
    404,
    7003,
  ),
  bucket: await refused(
    () => pcaps.ownership.get({ account_id }),
    Cloudflare.NotFoundError,
    404,
    7003,
  ),
  token: await refused(
    () => stranger.magicTransit.pcaps.get(simple.id, { account_id }),
    Cloudflare.AuthenticationError,
    401,
    10000,
  ),
};
const withKey = await byKey.magicTransit.pcaps.get(simple.id, { account_id });
assert.equal(withKey.id, simple.id);

console.log(JSON.stringify({ created: { simple, full }, done, files, errors, listed }, null, 2));
