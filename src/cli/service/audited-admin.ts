import type { AdminApi } from "../../domain/admin-api.ts";
import type { CallOptions } from "../../domain/admin-call.ts";
import { textFromBytes } from "../../domain/byte-text.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { AppId } from "../../domain/ids.ts";
import { type AppRef, formatAppRef, formatSharePath, type SharePath } from "../../domain/share-path.ts";
import type { Audit } from "../../meta/audit.ts";

/** The calls that change something, of each role of the API. What only reads is not in the audit log. */
export const ADMIN_ACTS: { readonly [R in keyof AdminApi]: readonly (keyof AdminApi[R] & string)[] } = {
  catalogue: [
    "createApp",
    "updateApp",
    "deleteApp",
    "undeleteApp",
    "createShare",
    "updateShare",
    "deleteShare",
    "undeleteShare",
  ],
  snapshots: ["createSnapshot", "deleteSnapshot"],
  mounts: ["mount", "umount"],
  reading: [],
  history: [],
  changes: [],
  restores: ["execute"],
  backups: ["addRepository", "removeRepository", "enableBackup", "disableBackup", "repairBackup"],
  retention: ["setRetention", "clearRetention"],
  purges: ["purge"],
  nodes: ["inviteNode", "removeNode", "allowNode"],
  tokens: ["createToken", "revokeTokens", "rotateTokenKeys"],
  audit: [],
  status: [],
};

export type AuditedParts = {
  readonly audit: Audit;
  /** The app a reference means, if there is one. */
  readonly appIdOf: (app: AppRef) => AppId | undefined;
};

/** The same API, with every act in the audit log: who did what to what, and how it ended. */
export function auditedAdmin(api: AdminApi, parts: AuditedParts): AdminApi {
  const roles = (Object.keys(ADMIN_ACTS) as (keyof AdminApi)[]).map((role) => {
    const acts = ADMIN_ACTS[role] as readonly string[];
    return [role, acts.length === 0 ? api[role] : auditedRole(role, { target: api[role], acts, ...parts })];
  });
  return Object.fromEntries(roles) as AdminApi;
}

type Method = (request: unknown, options?: CallOptions) => unknown;

type Role = AuditedParts & { readonly target: object; readonly acts: readonly string[] };

/** Methods are called on what they belong to, which may keep things of its own. */
function auditedRole(role: string, { target, acts, ...parts }: Role): object {
  return new Proxy(target, {
    get: (_, name) => {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== "function") return value;
      const method = value.bind(target) as Method;
      if (!acts.includes(String(name))) return method;
      return (request: unknown, options?: CallOptions) =>
        act(`${role}.${String(name)}`, { method, request, options }, parts);
    },
  });
}

type Call = { readonly method: Method; readonly request: unknown; readonly options: CallOptions | undefined };

function act(what: string, { method, request, options }: Call, { audit, appIdOf }: AuditedParts): unknown {
  const app = appOf(request);
  // An app that is deleted by it is found only before, one that is made only after.
  const before = app === undefined ? undefined : appIdOf(app);
  const note = (why: string): void => {
    const appId = before ?? (app === undefined ? undefined : appIdOf(app));
    audit.act({ who: whoOf(options), what, on: onWhat(request), why, ...(appId === undefined ? {} : { appId }) });
  };
  const result = method(request, options);
  return isStream(result) ? notedStream(result, note) : notedAnswer(result as Promise<unknown>, note);
}

async function notedAnswer(answer: Promise<unknown>, note: (why: string) => void): Promise<unknown> {
  try {
    const value = await answer;
    note("");
    return value;
  } catch (error) {
    note(codeOf(error));
    throw error;
  }
}

/** One that its reader leaves has been interrupted. */
async function* notedStream(stream: AsyncIterable<unknown>, note: (why: string) => void): AsyncGenerator<unknown> {
  let why = "CANCELLED";
  try {
    yield* stream;
    why = "";
  } catch (error) {
    why = codeOf(error);
    throw error;
  } finally {
    note(why);
  }
}

function isStream(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === "object" && value !== null && Symbol.asyncIterator in value;
}

function codeOf(error: unknown): string {
  return error instanceof TidemarkError ? error.code : "INTERNAL";
}

function whoOf(options: CallOptions | undefined): string {
  const { actor } = options ?? {};
  return actor === undefined
    ? "service"
    : `${actor.label === "" ? "an unnamed client" : actor.label} (uid ${actor.uid})`;
}

/** The app that a request names, itself or in a path. */
function appOf(request: unknown): AppRef | undefined {
  const { app, path, source, namespace, name } = (request ?? {}) as Record<string, unknown>;
  if (isAppRef(app)) return app;
  const inPath = ((path ?? source) as { readonly app?: unknown } | undefined)?.app;
  if (isAppRef(inPath)) return inPath;
  return typeof namespace === "string" && typeof name === "string" ? { namespace, name } : undefined;
}

function isAppRef(value: unknown): value is AppRef {
  const { namespace, name } = (value ?? {}) as Record<string, unknown>;
  return typeof namespace === "string" && typeof name === "string";
}

/** What is acted on, by the names in the request. Only fields that are known to be no secret: a request may carry keys and tokens. */
function onWhat(request: unknown): string {
  const fields = (request ?? {}) as Record<string, unknown>;
  const app = appOf(request);
  const place = (fields["path"] ?? fields["source"] ?? {}) as Record<string, unknown>;
  const share = (fields["share"] ?? place["share"]) as { readonly name?: unknown } | undefined;
  const path = fields["path"] instanceof Uint8Array ? fields["path"] : place["path"];
  const names = [
    app === undefined ? undefined : formatAppRef(app),
    typeof share?.name === "string" ? share.name : undefined,
    path instanceof Uint8Array && path.length > 0 ? textFromBytes(path) : undefined,
  ].filter((name) => name !== undefined);
  const others = ["name", "id", "target", "repository"]
    .filter((field) => typeof fields[field] === "string" && !(field === "name" && "namespace" in fields))
    .map((field) => `${field} ${String(fields[field])}`);
  const target = fields["target"] as SharePath | string | undefined;
  const to = typeof target === "object" ? [`to ${formatSharePath(target)}`] : [];
  return [names.join("/"), ...to, ...others].filter((text) => text !== "").join(", ");
}
