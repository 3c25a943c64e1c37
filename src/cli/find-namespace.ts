import type { AppInfo } from "../domain/admin-catalogue.ts";
import { TidemarkError } from "../domain/errors.ts";
import { formatAppRef, NAMESPACE_DEFAULT, parseSharePath } from "../domain/share-path.ts";
import type { Session } from "./session.ts";

/** So many are named when a name is ambiguous. */
const NAMED_MAX = 5;

/**
 * `text` (`app[/share[/path]]`) with the one namespace that has an app of that name, when the default one has none; undefined when there is nothing to
 * find: a namespace was given, the default one has it, or none. Live apps go before deleted ones. Throws NOT_FOUND, naming them, when several have it.
 */
export async function findNamespace(session: Session, text: string): Promise<string | undefined> {
  const ref = parseSharePath(text).app;
  if (text.slice(0, text.indexOf(ref.name)).includes(":")) return undefined;
  const named = await appsNamed(session, ref.name);
  const live = named.filter((app) => app.deletedAt === undefined);
  const candidates = live.length > 0 && ref.id === undefined ? live : named;
  if (named.some((app) => app.namespace === NAMESPACE_DEFAULT)) return undefined;
  const namespaces = [...new Set(candidates.map((app) => app.namespace))];
  const [namespace, ...others] = namespaces;
  if (namespace === undefined) return undefined;
  if (others.length === 0) return `${namespace}:${text}`;
  const refs = namespaces.slice(0, NAMED_MAX).map((each) => formatAppRef({ namespace: each, name: ref.name }));
  throw new TidemarkError(
    "NOT_FOUND",
    `there is no app "${ref.name}" in the default namespace; did you mean ${refs.join(" or ")}?`,
  );
}

async function appsNamed(session: Session, name: string): Promise<AppInfo[]> {
  const found: AppInfo[] = [];
  for await (const page of (await session.api()).catalogue.listApps({ deleted: "with" }, session.callOptions))
    found.push(...page.filter((app) => app.name === name));
  return found;
}
