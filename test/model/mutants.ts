import { LIVE, type Lsn, type MountId } from "../../src/domain/ids.ts";
import {
  type Invalidation,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  type ReplyMap,
  type Request,
  type RequestContext,
} from "../../src/domain/metadata-api.ts";
import type { Harness, OpenHarness } from "./harness.ts";
import { openModel } from "./model-api.ts";

/** What an execution may be replaced with: `next` runs a request as it should be. */
type Next = (request: Request, context: RequestContext) => ReplyMap[Request["op"]] | Promise<ReplyMap[Request["op"]]>;
type Mutation = (request: Request, context: RequestContext, next: Next) => ReturnType<Next>;

/** Defects that an engine might have, each a small change of requests or replies of the model: the model test must find every one. */
export const MUTATIONS: Readonly<Record<string, Mutation>> = {
  "reads the present when asked for the past": (request, context, next) =>
    next("at" in request ? { ...request, at: LIVE } : request, context),
  "reads one record too late": (request, context, next) =>
    next("at" in request && request.at !== LIVE ? { ...request, at: (request.at + 1) as Lsn } : request, context),
  "ignores RENAME_NOREPLACE": (request, context, next) =>
    next(request.op === "rename" ? { ...request, flags: request.flags & ~RENAME_NOREPLACE } : request, context),
  "ignores RENAME_EXCHANGE": (request, context, next) =>
    next(request.op === "rename" ? { ...request, flags: request.flags & ~RENAME_EXCHANGE } : request, context),
  "ignores the umask": (request, context, next) =>
    next("umask" in request ? { ...request, umask: 0 } : request, context),
  "keeps privileges on write": (request, context, next) =>
    next(request.op === "write" ? { ...request, killPrivileges: false } : request, context),
  "loses the last byte of a page-sized write": (request, context, next) => {
    if (request.op !== "write" || request.data.length < 4096) return next(request, context);
    const cut = request.data.subarray(0, request.data.length - 1);
    next({ ...request, data: cut }, context);
    return request.data.length;
  },
  "punches one byte too many": (request, context, next) =>
    next(
      request.op === "fallocate" && request.mode === 3 ? { ...request, length: request.length + 1n } : request,
      context,
    ),
  "copies from the present": (request, context, next) =>
    next(request.op === "copyRange" ? { ...request, sourceAt: LIVE } : request, context),
  "runs a re-sent request again": (request, context, next) =>
    next(request, { ...context, resent: false, unique: context.resent ? -1 : context.unique }),
  "leaves out one name of a full page": async (request, context, next) => {
    const reply = await next(request, context);
    if (request.op !== "readdir" || request.entriesMax < 2) return reply;
    const page = reply as ReplyMap["readdir"];
    return page.entries.length < request.entriesMax ? page : { ...page, entries: page.entries.slice(1) };
  },
  "says that everything is a hole": (request, context, next) => {
    if (request.op !== "lseek" || request.whence !== "hole") return next(request, context);
    next(request, context);
    return request.offset;
  },
  "ends orphans at once": async (request, context, next) => {
    const before = request.op === "unlink" ? await next({ ...request, op: "lookup", at: LIVE }, context) : undefined;
    const reply = await next(request, context);
    if (before !== undefined) await next({ op: "forget", ino: (before as ReplyMap["lookup"]).ino }, context);
    return reply;
  },
  "ends an orphan when the first of its mounts forgets it": async (request, context, next) => {
    if (request.op !== "forget") return next(request, context);
    for (const mountId of [1, 2] as MountId[])
      await next(request, { ...context, actor: { ...context.actor, mountId } });
    return undefined;
  },
  "never ends an orphan": (request, context, next) => (request.op === "forget" ? undefined : next(request, context)),
  "gives everything to root": (request, context, next) =>
    next(request, { ...context, actor: { ...context.actor, uid: 0 } }),
};

/** Defects in what other caches are told: what is passed on for an event. */
export const MUTED: Readonly<Record<string, (event: Invalidation) => Invalidation | undefined>> = {
  "tells nobody of names": (event) => (event.kind === "entry" ? undefined : event),
  "tells of attributes where the data changed": (event) => (event.kind === "inode" ? { ...event, data: false } : event),
  "tells the mount that made the change too": (event) => ({ ...event, excluding: 0 }),
};

const unchanged: Mutation = (request, context, next) => next(request, context);

/** The model with a defect. */
export function openMutant(mutation: Mutation): OpenHarness {
  return async (options) => mutated(await openModel(options), { mutation, muted: (event) => event });
}

/** The model telling other caches wrong things. */
export function openMuted(muted: (event: Invalidation) => Invalidation | undefined): OpenHarness {
  return async (options) => mutated(await openModel(options), { mutation: unchanged, muted });
}

type Defect = { readonly mutation: Mutation; readonly muted: (event: Invalidation) => Invalidation | undefined };

function mutated(harness: Harness, defect: Defect): Harness {
  const next: Next = (request, context) => harness.api.execute(request, context);
  const execute = (request: Request, context: RequestContext) => defect.mutation(request, context, next);
  const subscribe: Harness["api"]["subscribe"] = (listener) =>
    harness.api.subscribe((event) => {
      const told = defect.muted(event);
      if (told !== undefined) listener(told);
    });
  return {
    ...harness,
    api: { execute: execute as Harness["api"]["execute"], subscribe, close: () => harness.api.close() },
    reopen: async () => mutated(await harness.reopen(), defect),
  };
}

/** An engine whose crash loses the last record it acknowledged. */
export const openForgetful: OpenHarness = async (options) => forgetful(await openModel(options), 0);

function forgetful(harness: Harness, lost: number): Harness {
  return {
    ...harness,
    lastLsn: () => (harness.lastLsn() - lost) as Lsn,
    reopen: async () => forgetful(await harness.reopen(), lost + 1),
  };
}
