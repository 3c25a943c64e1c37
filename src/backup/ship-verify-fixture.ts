import { present } from "../base/assert.ts";
import { silentLog } from "../base/log.ts";
import type { Lsn } from "../domain/ids.ts";
import type { KvStore } from "../kv/kv-store.ts";
import { MemoryKv } from "../kv/memory-kv.ts";
import { prefixEnd, TABLE } from "../meta/keys.ts";
import type { OpenApp } from "../meta/open-app.ts";
import { slotPrefix } from "../meta/row-store.ts";
import { decodeExtents } from "../meta/rows.ts";
import type { AppRepository } from "../repository/app-repository.ts";
import { PackReader } from "../repository/pack-reader.ts";
import { ArchiveIndex } from "./archive-index.ts";
import { isFolderTable } from "./archive-rows.ts";
import { materialise } from "./materialise.ts";

// For tests: an app as the repository alone gives it, compared with the one that was shipped.

const SLOT = 9;

/** A row as text: key and value in hex. */
type RowText = string;

/**
 * Lays the repository's rows down in a store of its own, and compares them with the app's, of which everything is applied, and every byte that they name with the app's data. Answers the LSN they
 * are of. Throws where something differs. `kv`: where the app's rows are. With `extraRows` the repository may have more: history that the app dropped.
 */
export async function verifyMaterialised(
  repository: AppRepository,
  app: OpenApp,
  options: { readonly kv: KvStore; readonly extraRows?: boolean },
): Promise<Lsn> {
  const kv = new MemoryKv();
  const { lsn } = await materialise({ app: repository, kv, slot: SLOT, log: silentLog });
  const ours = rowsOf(options.kv, app.slot);
  const theirs = rowsOf(kv, SLOT);
  const missing = [...ours].filter((row) => !theirs.has(row));
  const extra = options.extraRows === true ? [] : [...theirs].filter((row) => !ours.has(row));
  if (missing.length + extra.length > 0)
    throw new Error(`${missing.length} rows are missing (${missing[0]}), ${extra.length} are too many (${extra[0]})`);
  await verifyData(repository, app, { kv, rows: ours });
  return lsn;
}

async function verifyData(
  repository: AppRepository,
  app: OpenApp,
  { kv, rows }: { readonly kv: KvStore; readonly rows: ReadonlySet<RowText> },
): Promise<void> {
  const index = new ArchiveIndex(kv, SLOT);
  const packs = new PackReader({ store: repository.store, keys: repository.keys });
  for (const row of rows) {
    const [key = "", value = ""] = row.split("=");
    const table = Number.parseInt(key.slice(0, 2), 16);
    if (table !== TABLE.SLICE && table !== TABLE.CHECKPOINT) continue;
    for (const { segment, dataStart, dataLength, skip, length } of decodeExtents(Buffer.from(value, "hex"))) {
      if (segment === 0) continue;
      const archived = present(index.data(segment, dataStart), `where the data at ${segment}/${dataStart} are`);
      const data = Buffer.alloc(dataLength);
      for (const piece of archived.pieces) (await packs.read(piece.place)).copy(data, piece.skip);
      const expected = await app.core.data.read({ segment, dataStart, dataLength, skip, length });
      if (!data.subarray(skip, skip + length).equals(expected))
        throw new Error(`data at ${segment}/${dataStart} differ`);
    }
  }
}

function rowsOf(kv: KvStore, slot: number): Set<RowText> {
  const prefix = slotPrefix(slot);
  const rows = new Set<RowText>();
  for (let gt: Buffer = prefix; ; ) {
    const page = kv.rangeSync({ gt, lt: prefixEnd(prefix), limit: 1000 });
    for (const { key, value } of page) {
      const own = key.subarray(prefix.length);
      if (!isFolderTable(own.readUInt8(0))) rows.add(`${own.toString("hex")}=${value.toString("hex")}`);
    }
    const last = page.at(-1);
    if (last === undefined || page.length < 1000) return rows;
    gt = last.key;
  }
}
