// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// A bucket is added, its challenge answered, a full capture delivered into it and the bucket deleted, by
// Cloudflare's own client, unpatched. Who started this reads the bucket: for each line
// {"challenge":FILENAME} or {"capture":ID} that is printed, a line with the object's text, or with the
// number of its packets, is expected on standard input. The first expectation that does not hold ends
// it with 1.
//
//   node ownership.mjs URL TOKEN ACCOUNT DESTINATION_CONF
import assert from "node:assert/strict";
import { createInterface } from "node:readline/promises";
import Cloudflare from "cloudflare";

const [url, apiToken, account_id, destination_conf] = process.argv.slice(2);
assert(destination_conf, "usage: ownership.mjs URL TOKEN ACCOUNT DESTINATION_CONF");

let requests = 0;
const counted = (...args) => {
  requests++;
  return fetch(...args);
};
const client = new Cloudflare({ apiToken, baseURL: `${url}/client/v4`, fetch: counted });
const { pcaps } = client.magicTransit;
const { ownership } = pcaps;
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function outside(question) {
  console.log(JSON.stringify(question));
  return (await lines.next()).value;
}

/** Runs ask, which must be refused with this class and code, in one request, in words with word. */
async function refused(ask, kind, code, word) {
  const before = requests;
  await assert.rejects(ask, (error) => {
    assert(error instanceof kind, `${error}`);
    assert.equal(error.errors[0].code, code);
    assert.match(error.errors[0].message, word);
    return true;
  });
  assert.equal(requests - before, 1, "the client asked again");
}

async function listed() {
  return (await ownership.get({ account_id })).result ?? [];
}

const full = {
  account_id,
  system: "magic-transit",
  type: "full",
  time_limit: 300,
  packet_limit: 500,
  colo_name: "ord02",
  destination_conf,
};
const { BadRequestError, NotFoundError } = Cloudflare;

assert.deepEqual(await listed(), []);
await refused(() => pcaps.create(full), BadRequestError, 1400, /destination_conf.*not validated/);
await refused(
  () => ownership.validate({ account_id, destination_conf, ownership_challenge: "x" }),
  BadRequestError,
  1400,
  /destination_conf.*not added/,
);

const added = await ownership.create({ account_id, destination_conf });
assert.match(added.id, /^[0-9a-f]{32}$/);
assert.equal(added.status, "pending");
assert.equal(added.destination_conf, destination_conf);
assert.match(added.filename, /^ownership-challenge-[0-9a-f]{32}\.txt$/);
assert(!Number.isNaN(Date.parse(added.submitted)));
await refused(() => pcaps.create(full), BadRequestError, 1400, /destination_conf.*not validated/);

const wrong = await ownership.validate({
  account_id,
  destination_conf,
  ownership_challenge: added.filename,
});
assert.equal(wrong.status, "failed");
await ownership.create({ account_id, destination_conf });
const ownership_challenge = await outside({ challenge: added.filename });
const proved = await ownership.validate({ account_id, destination_conf, ownership_challenge });
assert.equal(proved.status, "success");
assert.equal(proved.id, added.id);
assert(!Number.isNaN(Date.parse(proved.validated)));
assert.deepEqual(await listed(), [proved]);

const made = await pcaps.create(full);
assert.equal(made.status, "pending");
const end = Date.now() + 60_000;
let pcap;
do {
  await new Promise((wake) => setTimeout(wake, 50));
  pcap = await pcaps.get(made.id, { account_id });
  assert(Date.now() < end, `still ${pcap.status}`);
} while (["pending", "running", "conversion_pending", "conversion_running"].includes(pcap.status));
assert.equal(pcap.status, "success");
assert.equal(pcap.error_message, undefined);
assert.equal(pcap.destination_conf, destination_conf);
assert.equal(pcap.packets_captured, 500);
assert.equal(Number(await outside({ capture: made.id })), 500);

await ownership.delete(added.id, { account_id });
assert.deepEqual(await listed(), []);
await refused(() => ownership.delete(added.id, { account_id }), NotFoundError, 1404, /./);
await refused(() => pcaps.create(full), BadRequestError, 1400, /destination_conf.*not validated/);
assert.equal((await pcaps.get(made.id, { account_id })).status, "success");
console.log(JSON.stringify({ done: requests }));
