import { expect, test } from "vitest";
import { LIVE, type Lsn } from "../domain/ids.ts";
import { Backlog } from "./backlog.ts";
import { journalBytesAfter } from "./backlog-bytes.ts";

const SHIPPED = 7 as Lsn;
const ample = { freeBytes: 1000n, reserveBytes: 10n };
const short = { freeBytes: 9n, reserveBytes: 10n };

test("a backlog counts as large from its bound on, until it is well below", () => {
  const backlog = new Backlog({ policy: "serve", bytesMax: 100n });
  expect(backlog.update({ bytes: 100n, disk: undefined })).toEqual([]);
  expect(backlog.update({ bytes: 101n, disk: undefined })).toEqual(["grown"]);
  expect(backlog.update({ bytes: 500n, disk: undefined })).toEqual([]);
  expect(backlog.update({ bytes: 81n, disk: undefined })).toEqual([]);
  expect(backlog.isLarge).toBe(true);
  expect(backlog.update({ bytes: 80n, disk: undefined })).toEqual(["relieved"]);
  expect(backlog.isLarge).toBe(false);
});

test("writers are refused under the policy to stop only, and only while the backlog is large", () => {
  const serve = new Backlog({ policy: "serve", bytesMax: 100n });
  const stop = new Backlog({ policy: "stop", bytesMax: 100n });
  for (const backlog of [serve, stop]) backlog.update({ bytes: 101n, disk: ample });
  expect(serve.refusal()).toBeUndefined();
  expect(stop.refusal()).toMatchObject({ code: "ENOSPC", message: expect.stringContaining("backup status") });
  stop.update({ bytes: 0n, disk: ample });
  expect(stop.refusal()).toBeUndefined();
});

test("history that waits is given up for the disk's last reserve under the policy to serve only, until all is shipped", () => {
  const serve = new Backlog({ policy: "serve" });
  expect(serve.update({ bytes: 5n, disk: ample })).toEqual([]);
  expect(serve.floor(SHIPPED)).toBe(SHIPPED);
  expect(serve.update({ bytes: 5n, disk: short })).toEqual(["continuity-lost"]);
  expect(serve.floor(SHIPPED)).toBe(LIVE);
  expect(serve.update({ bytes: 5n, disk: ample })).toEqual([]);
  expect(serve.floor(SHIPPED)).toBe(LIVE);
  serve.update({ bytes: 0n, disk: ample });
  expect(serve.floor(SHIPPED)).toBe(SHIPPED);
  const stop = new Backlog({ policy: "stop" });
  expect(stop.update({ bytes: 5n, disk: short })).toEqual([]);
  expect(stop.floor(SHIPPED)).toBe(SHIPPED);
});

test("bytes after a record are those of later segments, and a share of its own", () => {
  const journal = {
    lastLsn: 40 as Lsn,
    segments: () => [
      { segment: 1, lastLsn: 10 as Lsn, bytes: 1000, sealed: true },
      { segment: 11, lastLsn: 30 as Lsn, bytes: 2000, sealed: true },
      { segment: 31, lastLsn: 40 as Lsn, bytes: 500, sealed: false },
    ],
  };
  expect(journalBytesAfter(journal, 0 as Lsn)).toBe(3500n);
  expect(journalBytesAfter(journal, 20 as Lsn)).toBe(1500n);
  expect(journalBytesAfter(journal, 40 as Lsn)).toBe(0n);
  expect(journalBytesAfter(journal, 99 as Lsn)).toBe(0n);
});
