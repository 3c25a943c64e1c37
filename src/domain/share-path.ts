import { bytesFromText, textFromBytes } from "./byte-text.ts";
import { TidemarkError } from "./errors.ts";
import { checkObjectName, joinNames, type ObjectKind, pathNames } from "./names.ts";

/**
 * How people name an app: `[namespace:]name[@id]`. Without an id the live app of that name is meant; a deleted one is named with its id,
 * since the name may have been taken again.
 */
export type AppRef = {
  readonly namespace: string;
  readonly name: string;
  /** The app id, or an unambiguous beginning of it: 6 to 32 lower-case hex digits. */
  readonly id?: string;
};

/** How people name a share inside its app: `name[@id]`, as for apps. */
export type ShareRef = {
  readonly name: string;
  readonly id?: string;
};

/** `[namespace:]app[/share[/path]]`. Without `share` the whole app is meant. */
export type SharePath = {
  readonly app: AppRef;
  readonly share?: ShareRef;
  /** Inside the share: names joined by "/", no leading or trailing "/", empty for its root (and always empty without a share). */
  readonly path: Buffer;
};

export const NAMESPACE_DEFAULT = "default";

/** Fewest digits of an id that may stand for all of it: 24 bits, as with short commit ids. */
const ID_DIGITS_MIN = 6;
/** An id, or the beginning of one. */
export const ID_PREFIX = /^[0-9a-f]{6,32}$/;
const EXPECTED = "expected [namespace:]app[/share[/path]]";

/** Parses what people type. `\xHH` stands for a byte (see byte-text.ts). Throws INVALID_ARGUMENT. */
export function parseSharePath(text: string): SharePath {
  if (text === "") throw new TidemarkError("INVALID_ARGUMENT", `the path is empty: ${EXPECTED}`);
  if (text.startsWith("/")) {
    throw new TidemarkError("INVALID_ARGUMENT", `"${text}" starts with "/": ${EXPECTED}, not a path of this machine`);
  }
  const [appText = "", shareText, ...rest] = text.split("/");
  const app = parseAppRef(appText);
  if (shareText === undefined || (shareText === "" && rest.length === 0)) return { app, path: Buffer.alloc(0) };
  const path = joinNames(pathNames(bytesFromText(rest.join("/"))));
  return { app, share: parseNameAndId("share", shareText), path };
}

/** Parses `[namespace:]name[@id]`. Throws INVALID_ARGUMENT. */
export function parseAppRef(text: string): AppRef {
  if (text.includes("/")) {
    throw new TidemarkError("INVALID_ARGUMENT", `"${text}" names more than an app: expected [namespace:]app`);
  }
  const colon = text.indexOf(":");
  const namespace = colon === -1 ? NAMESPACE_DEFAULT : checkObjectName("namespace", text.slice(0, colon));
  return { namespace, ...parseNameAndId("app", text.slice(colon + 1)) };
}

/** The written form, which `parseSharePath` reads back. The default namespace is left out. */
export function formatSharePath(value: SharePath): string {
  const app = formatAppRef(value.app);
  if (value.share === undefined) return app;
  const share = formatNameAndId(value.share);
  return value.path.length === 0 ? `${app}/${share}` : `${app}/${share}/${textFromBytes(value.path)}`;
}

/** The written form of an app reference. */
export function formatAppRef(app: AppRef): string {
  const name = formatNameAndId(app);
  return app.namespace === NAMESPACE_DEFAULT ? name : `${app.namespace}:${name}`;
}

function formatNameAndId(ref: ShareRef): string {
  return ref.id === undefined ? ref.name : `${ref.name}@${ref.id}`;
}

function parseNameAndId(kind: ObjectKind, text: string): ShareRef {
  const at = text.indexOf("@");
  if (at === -1) return { name: checkObjectName(kind, text) };
  const id = text.slice(at + 1);
  if (!ID_PREFIX.test(id)) {
    const rule = `${ID_DIGITS_MIN} to 32 lower-case hex digits after "@", as "tidemark ${kind} list --deleted" shows them`;
    throw new TidemarkError("INVALID_ARGUMENT", `"${text}" does not name a ${kind}: expected ${rule}`);
  }
  return { name: checkObjectName(kind, text.slice(0, at)), id };
}
