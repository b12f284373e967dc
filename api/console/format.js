// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// Numbers, sizes and times as people read them, and what people write back into numbers.

const whole = new Intl.NumberFormat("en-US");

// 1234567 as 1,234,567: exact, for figures that must add up.
export const count = (n) => whole.format(n);

function scaled(n, step, units) {
  let i = 0;
  while (Math.abs(n) >= step && i < units.length - 1) {
    n /= step;
    i++;
  }
  const digits = i === 0 ? (Number.isInteger(n) ? 0 : 1) : n >= 100 ? 0 : n >= 10 ? 1 : 2;
  return `${n.toFixed(digits)}${units[i] ? " " + units[i] : ""}`;
}

export const si = (n) => scaled(n, 1000, ["", "k", "M", "G", "T"]);
export const bytes = (n) => scaled(n, 1000, ["B", "kB", "MB", "GB", "TB", "PB"]);
export const pps = (n) => `${scaled(n, 1000, ["", "k", "M", "G"])}${n < 1000 ? " " : ""}pps`;
export const bits = (n) => scaled(n * 8, 1000, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"]);
export const byteRate = (n) => `${bytes(n)}/s`;
export const percent = (part, all) => (all > 0 ? `${Math.min(100, (part / all) * 100).toFixed(part && part / all < 0.1 ? 1 : 0)} %` : "–");

export function duration(seconds) {
  if (seconds < 60) return `${seconds < 10 && !Number.isInteger(seconds) ? seconds.toFixed(1) : Math.floor(seconds)} s`;
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const at = parts.findIndex(([size]) => seconds >= size);
  const [size, unit] = parts[at];
  const rest = parts[at + 1] ? Math.floor((seconds % size) / parts[at + 1][0]) : 0;
  return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${parts[at + 1][1]}` : ""}`;
}

export const seconds = (from, to) => (from ? Math.max(0, ((to ? Date.parse(to) : Date.now()) - Date.parse(from)) / 1000) : 0);

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-CA", { year: "numeric", month: "2-digit", day: "2-digit" });

// Local: the time alone if it is today's.
export function when(stamp) {
  if (!stamp) return "–";
  const date = new Date(stamp);
  const text = clock.format(date);
  return day.format(date) === day.format(new Date()) ? text : `${day.format(date)} ${text}`;
}

// With the 9 decimals that a Date would lose.
export const precise = (stamp) => `${clock.format(new Date(stamp))}.${stamp.slice(20, 29)}`;

const SIZES = { "": 1, k: 1e3, m: 1e6, g: 1e9, t: 1e12 };
const TIMES = { "": 1, s: 1, m: 60, min: 60, h: 3600, d: 86400 };

// "10M" as 10000000; "" as 0; NaN for what is no whole number.
export function parseCount(words) {
  const found = /^\s*(\d+(?:\.\d+)?)\s*([kmgt]?)b?\s*$/i.exec(words);
  if (words.trim() === "") return 0;
  const n = found ? found[1] * SIZES[found[2].toLowerCase()] : NaN;
  return Math.abs(n - Math.round(n)) <= n * 1e-12 ? Math.round(n) : NaN;
}

// "90", "1.5 h", "10min" in seconds.
export function parseSeconds(words) {
  const found = /^\s*(\d+(?:\.\d+)?)\s*(s|m|min|h|d|)\s*$/i.exec(words);
  if (words.trim() === "") return 0;
  return found ? found[1] * TIMES[found[2].toLowerCase()] : NaN;
}
