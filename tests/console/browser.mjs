// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// A browser on standard input and output: a JSON line asks, a JSON line answers. Debian's Chromium by
// playwright-core; what is done with it is said by test_console.py.
//
//   {"id":1, "page":"a", "make":{context options}}
//   {"id":2, "page":"a", "selector":"#token", "method":"fill", "args":["x"]}    of a locator; without selector, of the page
//   {"id":3, "page":"a", "method":"evaluate", "args":["1 + 1"]}
//   {"id":4, "page":"a", "trouble":true}     what went wrong on the page since it was asked last
//   {"id":5, "page":"a", "traffic":true}     [{"url","bytes","status"}] since then
//   {"id":7, "page":"a", "trace":milliseconds}     how many ms of processor each task of a page's main thread took meanwhile
//   {"id":8, "page":"a", "heap":true}     bytes that its scripts hold, without garbage
//   {"id":6, "page":"a", "click":"selector", "save":"FILE"}     a click that downloads
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const TIMEOUT_MS = Number(process.env.BROWSER_TIMEOUT_MS ?? 10000);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--font-render-hinting=none"],
});
const pages = new Map();

async function make(name, options) {
  const context = await browser.newContext({ acceptDownloads: true, ...options });
  const page = await context.newPage();
  const session = await context.newCDPSession(page);
  const own = { page, context, session, trouble: [], traffic: [], bytes: new Map() };
  page.setDefaultTimeout(TIMEOUT_MS);
  page.on("pageerror", (error) => own.trouble.push(`error: ${error.stack}`));
  page.on("console", (message) => message.type() === "error" && own.trouble.push(`console: ${message.text()} ${message.location().url}`));
  page.on("dialog", (dialog) => {
    own.trouble.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  await session.send("Network.enable");
  session.on("Network.responseReceived", ({ requestId, response }) => own.bytes.set(requestId, { url: response.url, status: response.status, bytes: 0 }));
  session.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => {
    const entry = own.bytes.get(requestId);
    if (entry) own.traffic.push({ ...entry, bytes: encodedDataLength });
  });
  pages.set(name, own);
}

const take = (list) => list.splice(0);

// Processor time, so that it does not matter who else wants the machine.
async function trace(page, ms) {
  await browser.startTracing(page, { categories: ["toplevel", "disabled-by-default-devtools.timeline"] });
  await page.waitForTimeout(ms);
  const events = JSON.parse((await browser.stopTracing()).toString()).traceEvents;
  const mains = new Set(events.filter((event) => event.name === "thread_name" && event.args.name === "CrRendererMain").map(({ pid, tid }) => `${pid} ${tid}`));
  return events.filter((event) => event.name === "RunTask" && event.tdur && mains.has(`${event.pid} ${event.tid}`)).map((event) => event.tdur / 1000);
}

async function heap(session) {
  await session.send("HeapProfiler.collectGarbage");
  return (await session.send("Runtime.getHeapUsage")).usedSize;
}

async function answer(asked) {
  if (asked.make) return make(asked.page, asked.make);
  const { page, context, session, trouble, traffic } = pages.get(asked.page);
  if (asked.trouble) return take(trouble);
  if (asked.traffic) return take(traffic);
  if (asked.heap) return heap(session);
  if (asked.trace) return trace(page, asked.trace);
  if (asked.close) {
    pages.delete(asked.page);
    return context.close();
  }
  if (asked.save) {
    const [download] = await Promise.all([page.waitForEvent("download"), page.locator(asked.click).click()]);
    await download.saveAs(asked.save);
    return download.suggestedFilename();
  }
  const on = asked.context ? context : asked.keyboard ? page.keyboard : asked.mouse ? page.mouse : asked.selector ? page.locator(asked.selector) : page;
  const result = await on[asked.method](...(asked.args ?? []));
  return JSON.stringify(result)?.length > 1e6 || typeof result === "object" && result?.constructor?.name !== "Object" && !Array.isArray(result) ? null : result;
}

for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  let said;
  try {
    said = { id: asked.id, result: (await answer(asked)) ?? null };
  } catch (error) {
    said = { id: asked.id, error: String(error.message ?? error) };
  }
  process.stdout.write(`${JSON.stringify(said)}\n`);
}
await browser.close();
