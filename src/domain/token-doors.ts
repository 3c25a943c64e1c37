import { type TokenOp, WALKING_OPS } from "./token.ts";
import type { TokenNeed } from "./token-needs.ts";

/**
 * THE OTHER TABLE: which calls of the admin API a token opens over the network, and which of its operations each takes. What is not here is for the service's own machine. docs/tokens.md is made of it, and each row is
 * tested both ways. What a mount asks is in token-needs.ts.
 *
 * What a call is about, and what the token must be for:
 * `listed`: the app, whatever of it the token is for; of a list of several things only those of the token are told. `place`: a file or directory, which must be in the token's directory; it is found upwards by its
 * parents, as of the moment the call is about. `share`: a share as a whole. `app`: the app as a whole. A place or share that is left out means the whole app, and takes a token for that.
 */
export type DoorSubject = "listed" | "place" | "share" | "app";

export type TokenDoor = {
  /** The role of AdminApi and its method: "snapshots.createSnapshot". */
  readonly call: string;
  readonly subject: DoorSubject;
  /** Each must be met. None: every token may. */
  readonly needs: readonly TokenNeed[];
  /** At another moment than now it takes `history` on top. */
  readonly past: boolean;
  /** A promise, or a stream of pages. */
  readonly answers: "one" | "pages";
};

const ADMIN: readonly TokenNeed[] = [["admin"]];
const HISTORY: readonly TokenNeed[] = [["history"]];
const RESTORE: readonly TokenNeed[] = [["restore"]];
/** What deals with moments has to know what they are. */
const MOMENTS: readonly TokenOp[] = ["history", "restore", "snapshot", "export"];

const one = { answers: "one", past: false } as const;
const pages = { answers: "pages", past: false } as const;

export const TOKEN_DOORS: readonly TokenDoor[] = [
  { call: "catalogue.listApps", subject: "listed", needs: [], ...pages },
  { call: "catalogue.listShares", subject: "listed", needs: [], ...pages },
  { call: "reading.resolveMoment", subject: "listed", needs: [MOMENTS], ...one },
  { call: "reading.resolve", subject: "place", needs: [WALKING_OPS], ...one, past: true },
  // With extended attributes.
  { call: "reading.stat", subject: "place", needs: [["read"]], ...one, past: true },
  { call: "reading.list", subject: "place", needs: [["list"]], ...pages, past: true },
  { call: "reading.read", subject: "place", needs: [["read"]], ...pages, past: true },
  { call: "reading.exportTree", subject: "place", needs: [["export"]], ...pages, past: true },
  { call: "changes.changes", subject: "place", needs: HISTORY, ...pages },
  { call: "changes.shareDelta", subject: "place", needs: HISTORY, ...pages },
  { call: "history.log", subject: "share", needs: HISTORY, ...pages },
  { call: "history.history", subject: "share", needs: HISTORY, ...pages },
  { call: "history.diff", subject: "share", needs: HISTORY, ...pages },
  { call: "history.find", subject: "share", needs: HISTORY, ...pages },
  { call: "restores.plan", subject: "share", needs: RESTORE, ...pages },
  { call: "restores.execute", subject: "share", needs: RESTORE, ...pages },
  { call: "restores.listRestores", subject: "listed", needs: RESTORE, ...one },
  { call: "snapshots.createSnapshot", subject: "listed", needs: [["snapshot"]], ...one },
  { call: "snapshots.listSnapshots", subject: "listed", needs: [MOMENTS], ...pages },
  // It lets a moment go that somebody wanted to keep.
  { call: "snapshots.deleteSnapshot", subject: "app", needs: ADMIN, ...one },
  { call: "catalogue.updateApp", subject: "app", needs: ADMIN, ...one },
  { call: "catalogue.createShare", subject: "app", needs: ADMIN, ...one },
  { call: "catalogue.updateShare", subject: "app", needs: ADMIN, ...one },
  { call: "catalogue.deleteShare", subject: "app", needs: ADMIN, ...one },
  { call: "catalogue.undeleteShare", subject: "app", needs: ADMIN, ...one },
  { call: "backups.enableBackup", subject: "app", needs: ADMIN, ...one },
  { call: "backups.disableBackup", subject: "app", needs: ADMIN, ...one },
  { call: "backups.backupNow", subject: "app", needs: ADMIN, ...pages },
  { call: "backups.backupStatus", subject: "app", needs: ADMIN, ...pages },
  { call: "retention.setRetention", subject: "app", needs: ADMIN, ...one },
  { call: "retention.clearRetention", subject: "app", needs: ADMIN, ...one },
  { call: "retention.planRetention", subject: "app", needs: ADMIN, ...one },
  { call: "retention.listRetention", subject: "app", needs: ADMIN, ...pages },
  { call: "tokens.createToken", subject: "app", needs: ADMIN, ...one },
  { call: "tokens.listTokens", subject: "app", needs: ADMIN, ...pages },
  { call: "tokens.revokeTokens", subject: "app", needs: ADMIN, ...one },
];
