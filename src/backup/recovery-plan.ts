import { TidemarkError } from "../domain/errors.ts";
import type { AppId } from "../domain/ids.ts";
import { type AppRef, formatAppRef } from "../domain/share-path.ts";
import type { RecoveryItem } from "./recovery-folder.ts";

/** An app as its newest seal in the repository tells of it. */
export type KnownApp = {
  readonly appId: AppId;
  readonly namespace: string;
  readonly name: string;
  readonly isDeleted: boolean;
};

/** What is to be recovered as what. Apps of the same name, which two machines may have made, get their id behind it, but for the first. */
export function planRecovery(
  known: readonly KnownApp[],
  wanted: {
    readonly apps: readonly AppRef[] | undefined;
    readonly as: string | undefined;
    readonly newId: () => string;
  },
): RecoveryItem[] {
  const chosen = wanted.apps === undefined ? [...known] : wanted.apps.map((ref) => choose(known, ref));
  const { as } = wanted;
  if (as !== undefined && chosen.length !== 1)
    throw new TidemarkError("INVALID_ARGUMENT", "a new name can be given to one app only: say which with --app");
  const taken = new Set<string>();
  return chosen.sort(byName).map(({ appId, namespace, name, isDeleted }) => {
    let given = as ?? name;
    if (!isDeleted && taken.has(`${namespace}:${given}`)) given = `${given}-${appId.slice(0, 8)}`;
    if (!isDeleted) taken.add(`${namespace}:${given}`);
    // The first digits seed the hashes that directories are ordered by: they stay.
    const id = as === undefined ? appId : ((appId.slice(0, 8) + wanted.newId().slice(8)) as AppId);
    return { sourceApp: appId, appId: id, namespace, name: given };
  });
}

function choose(known: readonly KnownApp[], ref: AppRef): KnownApp {
  const named = known.filter((app) => app.namespace === ref.namespace && app.name === ref.name);
  const { id } = ref;
  const found = named.filter((app) => (id === undefined ? !app.isDeleted : app.appId.startsWith(id)));
  const [first, second] = found;
  if (second !== undefined)
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `"${formatAppRef(ref)}" means several apps of the repository: ${found.map(withId).join(", ")}`,
    );
  if (first !== undefined) return first;
  const hint = named.length === 0 ? known.map(withId).sort().slice(0, NAMES_SHOWN_MAX) : named.map(withId);
  const has = hint.length === 0 ? "it has none" : `it has ${hint.join(", ")}`;
  throw new TidemarkError("NOT_FOUND", `there is no app "${formatAppRef(ref)}" in the repository: ${has}`, {
    data: { missing: "app" },
  });
}

/** As many as fit a message. */
const NAMES_SHOWN_MAX = 20;

function withId({ namespace, name, appId }: KnownApp): string {
  return formatAppRef({ namespace, name, id: appId.slice(0, 8) });
}

function byName(left: KnownApp, right: KnownApp): number {
  const order = `${left.namespace}:${left.name}:${left.appId}`;
  const other = `${right.namespace}:${right.name}:${right.appId}`;
  return order < other ? -1 : order > other ? 1 : 0;
}
