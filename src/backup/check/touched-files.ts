import { readU40Be, readU64Be } from "../../base/bytes.ts";
import type { InodeId, Lsn } from "../../domain/ids.ts";
import type { EngineCore } from "../../meta/core.ts";
import { lsnAtEnd, plainKey, prefixEnd, TABLE } from "../../meta/keys.ts";
import { DirectoryPaths } from "../../meta/reading/directory-paths.ts";
import { joinPath, namesAt, rowsFrom } from "../../meta/reading/paths.ts";
import { timeOfLsn } from "../../meta/reading/time.ts";
import type { Turns } from "../../meta/reading/turns.ts";
import { decodeExtents, decodeSince, INODE_CONTENT_OFFSET } from "../../meta/rows.ts";
import { sharesAt } from "../../meta/shares.ts";
import { dataName } from "./check-app.ts";
import type { TouchedFile } from "./finding.ts";

/** Rows gone through before others get their turn. */
const ROWS_PER_TURN = 10_000;

/** Names of one file that are told. */
const NAMES_MAX = 16;

/** Damaged contents looked for. */
const CONTENTS_MAX = 100_000;

/**
 * The versions of files that need data in `lost` (names by `dataName`), by the rows of an app that was laid down from the repository. Goes through all slices and inodes: for when something is damaged, not for every check.
 * A version is told when its content names lost data at any time, so it may be told though a part was overwritten before.
 */
export async function* touchedFiles(
  core: EngineCore,
  lost: ReadonlySet<string>,
  turns: Turns,
): AsyncGenerator<TouchedFile> {
  const contents = new Set<number>();
  for (const table of [TABLE.SLICE, TABLE.CHECKPOINT]) {
    for await (const { key, value } of paced(core, table, turns)) {
      if (contents.size >= CONTENTS_MAX) break;
      const isLost = decodeExtents(value).some(({ segment, dataStart }) => lost.has(dataName(segment, dataStart)));
      if (isLost) contents.add(readU64Be(key, 1));
    }
  }
  const directories = new DirectoryPaths(core);
  for (const table of [TABLE.INODE, TABLE.INODE_PAST]) {
    for await (const { key, value } of paced(core, table, turns)) {
      if (!contents.has(readU64Be(value, INODE_CONTENT_OFFSET))) continue;
      const ino = readU40Be(key, 1) as InodeId;
      const { since } = decodeSince(value);
      const until = table === TABLE.INODE ? undefined : lsnAtEnd(key);
      for (const path of pathsOf(core, directories, ino, since)) {
        yield {
          path,
          since: { lsn: since, time: await timeOfLsn(core, since) },
          ...(until === undefined ? {} : { until: { lsn: until, time: await timeOfLsn(core, until) } }),
        };
      }
    }
  }
}

function pathsOf(core: EngineCore, directories: DirectoryPaths, ino: InodeId, at: Lsn): Buffer[] {
  const paths = namesAt(core, ino, at, NAMES_MAX).map(({ parent, name }) => {
    const place = directories.of(parent, at);
    const share = sharesAt(core, at).find(({ root }) => root === place?.root)?.name;
    const inShare = joinPath(place?.path ?? Buffer.from("?"), name);
    return share === undefined ? inShare : joinPath(Buffer.from(share), inShare);
  });
  return paths.length > 0 ? paths : [Buffer.from(`(inode ${ino}, without a name)`)];
}

async function* paced(core: EngineCore, table: number, turns: Turns): AsyncGenerator<{ key: Buffer; value: Buffer }> {
  const gte = plainKey(table);
  let count = 0;
  for (const row of rowsFrom(core, gte, prefixEnd(gte), 1000)) {
    yield row;
    count++;
    if (count % ROWS_PER_TURN === 0) await turns.next();
  }
}
