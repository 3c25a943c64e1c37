/**
 * The SQLite rows, in a process of their own: `sqlite-child.ts FILE FULL|NORMAL SECONDS` inserts rows, each in a
 * transaction of its own, with the journal in WAL mode, and prints a Sample as JSON.
 */
import { randomBytes } from "node:crypto";
import { DatabaseSync } from "node:sqlite";

const [file, synchronous, seconds] = process.argv.slice(2);
if (file === undefined || (synchronous !== "FULL" && synchronous !== "NORMAL")) throw new Error("see the head comment");

const database = new DatabaseSync(file);
database.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = ${synchronous}`);
database.exec("CREATE TABLE item (id INTEGER PRIMARY KEY, at REAL, data BLOB)");
const insert = database.prepare("INSERT INTO item (at, data) VALUES (?, ?)");
const data = randomBytes(100);

const latenciesMs: number[] = [];
const startedMs = performance.now();
const endMs = startedMs + Number(seconds) * 1000;
let lastMs = startedMs;
while (lastMs < endMs) {
  insert.run(lastMs, data); // autocommit: one transaction
  const nowMs = performance.now();
  latenciesMs.push(nowMs - lastMs);
  lastMs = nowMs;
}
database.close();

latenciesMs.sort((a, b) => a - b);
const quantileUs = (q: number) => (latenciesMs[Math.floor(latenciesMs.length * q)] ?? 0) * 1000;
const value = latenciesMs.length / ((lastMs - startedMs) / 1000);
process.stdout.write(JSON.stringify({ value, p50Us: quantileUs(0.5), p99Us: quantileUs(0.99) }));
