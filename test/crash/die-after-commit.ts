/**
 * Loaded into a service (`node --import`) while the file CRASH_DIE exists: kills it right after a change of some mount is in the journal and before it is answered. That is
 * where a request that is sent again has been carried out already; a kill from outside seldom hits it.
 */
import { existsSync } from "node:fs";
import { Transaction } from "../../src/meta/transaction.ts";

/** Changes that a service lives to see: enough to get healthy in the eyes of its supervisor now and then. */
const CHANGES_MIN = 100;
const CHANGES_MAX = 1500;

const switchFile = process.env["CRASH_DIE"] ?? "";
let changesLeft = CHANGES_MIN + Math.floor(Math.random() * (CHANGES_MAX - CHANGES_MIN));
const { commit } = Transaction.prototype;

Transaction.prototype.commit = function (this: Transaction, ...rest: Parameters<typeof commit>) {
  const lsn = commit.apply(this, rest);
  if (this.context.unique !== 0 && --changesLeft === 0 && existsSync(switchFile)) process.kill(process.pid, "SIGKILL");
  return lsn;
};
