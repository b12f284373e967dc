// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// Rates over the last minutes, a row of numbers by name. What was not known at some time is null there, and a
// gap in the picture.

export const HISTORY = 300; // seconds

export class Series {
  constructor() {
    this.time = [];
    this.rows = new Map();
  }

  // values: {name: number}. A stamp that is not later than the last one is no news.
  push(stamp, values) {
    if (stamp <= this.time.at(-1)) return;
    const n = this.time.push(stamp);
    for (const name of Object.keys(values)) if (!this.rows.has(name)) this.rows.set(name, Array(n - 1).fill(null));
    for (const [name, row] of this.rows) row.push(values[name] ?? null);
    if (n <= HISTORY) return;
    for (const list of [this.time, ...this.rows.values()]) list.shift();
  }

  row(name) {
    return this.rows.get(name) ?? Array(this.time.length).fill(null);
  }

  // Names of the rows that begin so and have anything but nothing in them.
  alive(prefix) {
    return [...this.rows.keys()].filter((name) => name.startsWith(prefix) && this.rows.get(name).some((n) => n > 0));
  }

  clear() {
    this.time.length = 0;
    this.rows.clear();
  }
}
