import { ByteReader } from "../../base/bytes.ts";
import type { InodeId, Lsn, ShareId } from "../../domain/ids.ts";
import { isDirectory } from "../../domain/inode.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import type { JournalRecord } from "../../journal/record.ts";
import { TABLE } from "../keys.ts";
import { DirectoryPaths } from "../reading/directory-paths.ts";
import { shareLabel, sharesByRoot } from "../reading/find-share.ts";
import { pathText } from "../reading/locate.ts";
import { joinPath, nameAt } from "../reading/paths.ts";
import { type ShareRow, sharesAt } from "../shares.ts";
import { type PlanInput, shareStep } from "./restore-plan.ts";
import type { RestoreRow } from "./restore-rows.ts";
import type { Rules, Step, TargetDirectory } from "./step.ts";
import { TreePlanner } from "./tree-planner.ts";

/** Names and inodes remembered as taken back: about 100 bytes each. Beyond, a plan may name one twice; taking it back twice changes nothing. */
const SEEN_MAX = 500_000;

/** Records read together: the journal can only be read forwards. */
const BACK_RECORDS = 512;

/** What a record wrote of the live state. */
type Touched = {
  readonly lsn: Lsn;
  readonly shares: readonly ShareId[];
  readonly inodes: readonly InodeId[];
  readonly names: readonly { readonly parent: InodeId; readonly name: Buffer }[];
};

/** Where the name begins in the key of a dentry: table, parent, hash. */
const DENTRY_NAME_OFFSET = 14;

/**
 * The steps that take a restore back: what its records touched, and only that, becomes what it was before its RESTORE_BEGIN. `input.source` is that moment.
 * The journal tells what was touched, so memory does not depend on how much it was.
 */
export function undoSteps(undone: RestoreRow, input: PlanInput): AsyncGenerator<Step> {
  return new UndoPlan(undone, input).steps();
}

class UndoPlan {
  readonly #undone: RestoreRow;
  readonly #input: PlanInput;
  readonly #planner: TreePlanner;
  readonly #paths: DirectoryPaths;
  readonly #shares: Map<InodeId, ShareRow>;
  readonly #seen = new Set<string>();

  constructor(undone: RestoreRow, input: PlanInput) {
    this.#undone = undone;
    this.#input = input;
    const { source, target, limitations, work } = input;
    const wasThere = (ino: InodeId): boolean => (source.core.findInodeAt(ino, source.at)?.nlink ?? 0) > 0;
    // A directory that was there before is named by the restore's records where it was, so it is put there.
    const rules: Rules = {
      source,
      target,
      identity: "inode",
      mirror: true,
      goesInto: "new",
      mayMove: () => true,
      isPutElsewhere: wasThere,
      limitations,
    };
    this.#planner = new TreePlanner(rules, work);
    this.#paths = new DirectoryPaths(target.core);
    this.#shares = sharesByRoot(target.core);
  }

  /** From the last record to the first: then each directory that moves finds its way free, as it was when the restore moved it. */
  async *steps(): AsyncGenerator<Step> {
    const { core } = this.#input.source;
    const { firstLsn, lastLsn } = this.#undone;
    for (let last = lastLsn - 1; last > firstLsn; ) {
      const first = Math.max(firstLsn + 1, last - BACK_RECORDS + 1);
      const block: Touched[] = [];
      for await (const record of core.records(first as Lsn, last as Lsn)) {
        if (this.#input.work.due) await this.#input.work.pause();
        if (record.op === RECORD_OP.RESTORE_ENTRY) block.push(touchedBy(record));
      }
      for (const touched of block.reverse()) yield* this.#takeBack(touched);
      last = first - 1;
    }
  }

  async *#takeBack({ lsn, shares, inodes, names }: Touched): AsyncGenerator<Step> {
    for (const id of shares) yield* this.#share(id);
    // States first: a directory has the times it had before its names change, and those changes leave its times alone.
    for (const ino of inodes) yield* this.#state(ino);
    for (const { parent, name } of names) {
      if (parent !== this.#undone.limbo && this.#isFirstTouch(parent, name, lsn)) yield* this.#name(parent, name);
    }
  }

  /** A name that the restore first emptied and later filled is put back where it was emptied: in between, its inode may have been moved below it. */
  #isFirstTouch(parent: InodeId, name: Buffer, lsn: Lsn): boolean {
    const { core, at } = this.#input.source;
    return core.dentry(parent, name, at)?.ino === core.dentry(parent, name, (lsn - 1) as Lsn)?.ino;
  }

  #isNew(seen: string): boolean {
    if (this.#seen.has(seen)) return false;
    if (this.#seen.size < SEEN_MAX) this.#seen.add(seen);
    return true;
  }

  async *#share(id: ShareId): AsyncGenerator<Step> {
    const { source, target, mountedShares, limitations } = this.#input;
    const then = sharesAt(source.core, source.at).find((share) => share.id === id);
    const now = sharesAt(target.core, target.at).find((share) => share.id === id);
    if (then === undefined || now === undefined || !this.#isNew(`share ${id}`)) return;
    const wasDeleted = then.deletedAt !== undefined;
    if (wasDeleted === (now.deletedAt !== undefined)) return;
    if (wasDeleted && mountedShares.has(id)) {
      limitations.add(`the share "${now.name}" stays: it is mounted`);
      return;
    }
    yield shareStep(wasDeleted ? "delete" : "share", now, target.core.inodeAt(now.root, target.at));
  }

  async *#state(ino: InodeId): AsyncGenerator<Step> {
    const { source, target } = this.#input;
    const then = source.core.findInodeAt(ino, source.at);
    if (then === undefined || then.nlink === 0 || ino === this.#undone.limbo || !this.#isNew(`inode ${ino}`)) return;
    if (then.parent === ino) {
      const share = this.#shares.get(ino);
      if (share !== undefined) yield* this.#planner.change(ino, then, { share: shareLabel(share) });
      return;
    }
    const named = nameAt(target.core, ino, target.at);
    const directory = named === undefined ? undefined : this.#directory(named.parent);
    if (named !== undefined && directory !== undefined)
      yield* this.#planner.change(ino, then, { directory, name: named.name });
  }

  async *#name(parent: InodeId, name: Buffer): AsyncGenerator<Step> {
    const { source, target } = this.#input;
    const parentThen = source.core.findInodeAt(parent, source.at);
    // A directory that the restore made goes, or went, with its own name.
    if (parentThen === undefined || parentThen.nlink === 0 || !isDirectory(parentThen.mode)) return;
    if (!this.#isNew(`name ${parent}/${name.toString("latin1")}`)) return;
    const directory = this.#directory(parent);
    if (directory === undefined) {
      this.#sayGone(parent, name);
      return;
    }
    const then = source.core.dentry(parent, name, source.at);
    const now = target.core.dentry(parent, name, target.at);
    const row = then === undefined ? undefined : source.core.findInodeAt(then.ino, source.at);
    if (row !== undefined) {
      if (now?.ino !== row.ino) yield* this.#planner.put(directory, name, row);
    } else if (now !== undefined) yield* this.#planner.remove(directory, name, now.ino);
  }

  /** The directory as it is before this restore; undefined when it is in no share any more. */
  #directory(ino: InodeId): TargetDirectory | undefined {
    const { core, at } = this.#input.target;
    const row = core.findInodeAt(ino, at);
    const place = row === undefined || row.nlink === 0 ? undefined : this.#paths.of(ino, at);
    const share = place === undefined ? undefined : this.#shares.get(place.root);
    if (place === undefined || share === undefined) return undefined;
    return { share: shareLabel(share), path: place.path, before: ino, ino, isRestored: true };
  }

  /** The restore itself may have ended the directory: then it comes back whole. Otherwise somebody did since. */
  #sayGone(parent: InodeId, name: Buffer): void {
    const { core } = this.#input.target;
    const { lastLsn } = this.#undone;
    const place = this.#paths.of(parent, lastLsn);
    if ((core.findInodeAt(parent, lastLsn)?.nlink ?? 0) === 0 || place === undefined) return;
    this.#input.limitations.add(`${pathText(joinPath(place.path, name))} is left out: its directory was deleted since`);
  }
}

function touchedBy(record: JournalRecord): Touched {
  const shares: ShareId[] = [];
  const inodes: InodeId[] = [];
  const names: { parent: InodeId; name: Buffer }[] = [];
  for (const { key } of record.rows) {
    if (key[0] === TABLE.SHARE) shares.push(key.subarray(1).toString("hex") as ShareId);
    else if (key[0] === TABLE.INODE) inodes.push(new ByteReader(key, 1).u40() as InodeId);
    else if (key[0] === TABLE.DENTRY) {
      names.push({
        parent: new ByteReader(key, 1).u40() as InodeId,
        name: Buffer.from(key.subarray(DENTRY_NAME_OFFSET)),
      });
    }
  }
  return { lsn: record.lsn, shares, inodes, names };
}
