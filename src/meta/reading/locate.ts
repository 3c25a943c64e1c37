import { textFromBytes } from "../../domain/byte-text.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { FileName, Lsn } from "../../domain/ids.ts";
import { formatUtcTime, type MomentRef, type ResolvedMoment } from "../../domain/moment.ts";
import { pathNames } from "../../domain/names.ts";
import { formatSharePath, type SharePath } from "../../domain/share-path.ts";
import type { OpenApp } from "../open-app.ts";
import type { InodeRow } from "../rows.ts";
import type { ShareRow } from "../shares.ts";
import { floorOf, type ReadingParts } from "./apps.ts";
import { findShare } from "./find-share.ts";
import { lookupPath } from "./paths.ts";
import { resolveMoment } from "./time.ts";

/** A place in a share that was found at a moment. */
export type Located = {
  readonly app: OpenApp;
  readonly share: ShareRow;
  readonly at: ResolvedMoment;
  readonly names: readonly FileName[];
  readonly inode: InodeRow;
};

/** An app at a moment. */
export type LocatedApp = { readonly app: OpenApp; readonly at: ResolvedMoment };

/** Finds the app, and what the moment means in it. Throws NOT_FOUND, OUT_OF_HISTORY. */
export async function locateApp(parts: ReadingParts, path: SharePath, at: MomentRef): Promise<LocatedApp> {
  const app = await parts.apps.find(path.app);
  return { app, at: await resolveMoment(app.core, at, floorOf(parts, app)) };
}

/** Finds a path at a moment. Throws NOT_FOUND, OUT_OF_HISTORY, INVALID_ARGUMENT when `path` names no share. */
export async function locate(parts: ReadingParts, path: SharePath, at: MomentRef): Promise<Located> {
  const found = await locateApp(parts, path, at);
  // The floor may have passed while the time of the moment was looked up.
  found.app.core.moments.require(found.at.lsn);
  const share = shareOf(found.app, path);
  const names = pathNames(path.path);
  const inode = lookupPath(found.app.core, share.root, names, found.at.lsn);
  if (inode === undefined) throw notThere(path, found.at);
  return { ...found, share, names, inode };
}

/** The share a path names. Throws INVALID_ARGUMENT when it names an app only, NOT_FOUND. */
export function shareOf(app: OpenApp, path: SharePath): ShareRow {
  if (path.share === undefined) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `"${formatSharePath(path)}" names an app: add a share, as in ${formatSharePath(path)}/SHARE`,
    );
  }
  return findShare(app.core, path.share);
}

/** The error for a path with nothing there. */
export function notThere(path: SharePath, at: ResolvedMoment): TidemarkError {
  return new TidemarkError("NOT_FOUND", `there was no "${formatSharePath(path)}" at ${momentText(at)}`, {
    data: { lsn: at.lsn },
  });
}

/** A resolved moment in words. */
export function momentText(at: { readonly lsn: Lsn; readonly time?: ResolvedMoment["time"] }): string {
  if (at.lsn === 0) return "that time: the app began later";
  return at.time === undefined ? `LSN ${at.lsn}` : `LSN ${at.lsn} (${formatUtcTime(at.time)})`;
}

/** A path inside a share, for messages. */
export function pathText(path: Buffer): string {
  return path.length === 0 ? "the root of the share" : `"${textFromBytes(path)}"`;
}
