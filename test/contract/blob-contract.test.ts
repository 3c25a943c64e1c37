import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SystemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { SystemTimers } from "../../src/base/timers.ts";
import { BandwidthLimitedBlobs } from "../../src/blob/bandwidth-limited-blobs.ts";
import type { BlobStore } from "../../src/blob/blob-store.ts";
import { CountingBlobs } from "../../src/blob/counting-blobs.ts";
import { DirectoryBlobs } from "../../src/blob/directory-blobs.ts";
import { RetryingBlobs } from "../../src/blob/retrying-blobs.ts";
import { FaultyBlobs } from "../../src/blob/testing/faulty-blobs.ts";
import { MemoryBlobs } from "../../src/blob/testing/memory-blobs.ts";
import { type BlobFixture, blobContract } from "./blob-contract.ts";

const clock = new SystemClock();
const timers = new SystemTimers();
const random = (): number => 0.5;

function memoryFixture(wrap: (store: BlobStore) => BlobStore): () => Promise<BlobFixture> {
  return async () => {
    const contents = new MemoryBlobs({ clock });
    return {
      capabilities: { createOnly: true, objectLock: true },
      open: async () => wrap(new MemoryBlobs({ clock, contents })),
      dispose: async () => {},
    };
  };
}

async function directoryFixture(): Promise<BlobFixture> {
  const folder = await mkdtemp(join(tmpdir(), "tidemark-blobs-"));
  return {
    capabilities: { createOnly: true, objectLock: false },
    open: () => DirectoryBlobs.open(join(folder, "store"), { create: true }),
    dispose: () => rm(folder, { recursive: true }),
  };
}

blobContract("DirectoryBlobs", directoryFixture);
blobContract(
  "MemoryBlobs",
  memoryFixture((store) => store),
);
blobContract(
  "RetryingBlobs",
  memoryFixture((store) => new RetryingBlobs(store, { timers, random, log: silentLog })),
);
blobContract(
  "BandwidthLimitedBlobs",
  memoryFixture(
    (store) =>
      new BandwidthLimitedBlobs(store, { clock, timers, uploadBytesPerSecond: 1e9, downloadBytesPerSecond: 1e9 }),
  ),
);
blobContract(
  "CountingBlobs",
  memoryFixture((store) => new CountingBlobs(store)),
);
blobContract(
  "FaultyBlobs",
  memoryFixture((store) => new FaultyBlobs(store)),
);
