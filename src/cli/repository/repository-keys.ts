import { existsSync } from "node:fs";
import { TidemarkError } from "../../domain/errors.ts";
import { parseAppRef } from "../../domain/share-path.ts";
import { KEY_LOCK_DAYS_MAX, type Repository } from "../../repository/repository.ts";
import type { SecretEntry } from "../../repository/repository-keys.ts";
import type { RepositorySecret } from "../../repository/secrets.ts";
import { fullName } from "../commands/app-commands.ts";
import { confirm } from "../confirm.ts";
import type { ExitName } from "../exit-codes.ts";
import type { Column } from "../output/output.ts";
import { askNewPassphrase } from "../passphrase.ts";
import type { Session } from "../session.ts";
import { openRepositoryApps } from "./connect.ts";
import { makeKeyFile, readKeyFile } from "./key-files.ts";
import { openRepository } from "./open-repository.ts";
import type { RepoOptions } from "./repo-options.ts";
import { storeFailure } from "./store-failure.ts";

/** `repo key add`. */
export async function addKey(
  session: Session,
  options: RepoOptions & { readonly newKeyFile?: string },
): Promise<undefined> {
  const { repository, place } = await openRepository(session, options);
  try {
    const secret = await secretToAdd(session, options.newKeyFile, place.location.url);
    const name = await repository.addSecret(secret);
    const what = secret.kind === "passphrase" ? "The new passphrase" : `The key file ${options.newKeyFile}`;
    await session.output.done(
      { key: name, kind: secret.kind },
      `${what} opens ${place.location.url} too (key ${name}).`,
    );
    return undefined;
  } catch (error) {
    throw storeFailure(error);
  } finally {
    await repository.store.close();
  }
}

async function secretToAdd(session: Session, file: string | undefined, url: string): Promise<RepositorySecret> {
  if (file === undefined)
    return { kind: "passphrase", passphrase: await askNewPassphrase(session, "TIDEMARK_NEW_PASSPHRASE") };
  const path = session.machinePath(file);
  return { kind: "key-file", key: existsSync(path) ? await readKeyFile(path) : await makeKeyFile(path, `For ${url}.`) };
}

/** `repo key list`. */
export async function listKeys(session: Session, options: RepoOptions): Promise<undefined> {
  const { repository } = await openRepository(session, options);
  try {
    const pages = (async function* () {
      yield await repository.secrets();
    })();
    const columns: Column<SecretEntry>[] = [
      { title: "KEY", human: ({ name }) => name, style: () => "bold" },
      { title: "KIND", human: ({ kind }) => kind },
    ];
    await session.output.list(columns, pages, { empty: "Nothing opens it." });
    return undefined;
  } catch (error) {
    throw storeFailure(error);
  } finally {
    await repository.store.close();
  }
}

/** `repo key remove`. */
export async function removeKey(
  session: Session,
  options: RepoOptions & { readonly key: string; readonly yes?: boolean },
): Promise<ExitName | undefined> {
  const { repository, place } = await openRepository(session, options);
  try {
    const matching = (await repository.secrets()).filter(({ name }) => name.startsWith(options.key));
    const [found, second] = matching;
    if (found === undefined || second !== undefined) {
      const what = found === undefined ? `has no key "${options.key}"` : `has several keys "${options.key}…"`;
      throw new TidemarkError("NOT_FOUND", `${place.location.url} ${what}: see \`tidemark repo key list\``);
    }
    const question = `The ${found.kind} ${found.name} will not open ${place.location.url} any more. Go on?`;
    const refused = await confirm(session, { question, yes: options.yes === true });
    if (refused !== undefined) return refused;
    await repository.removeSecret(found.name);
    await session.output.done(
      { key: found.name },
      `Removed. Who has opened the repository with it before may have kept the repository's own key.${lockedText(repository)}`,
    );
    return undefined;
  } catch (error) {
    throw storeFailure(error);
  } finally {
    await repository.store.close();
  }
}

/** `repo destroy`. */
export async function destroyApp(
  session: Session,
  options: RepoOptions & { readonly app: string; readonly yes?: boolean },
): Promise<ExitName | undefined> {
  const { apps, parts } = await openRepositoryApps(session, options);
  try {
    const app = await apps.describe(parseAppRef(options.app));
    await refuseShipped(session, app.id, parts.repository.id);
    const question = `All backups of ${fullName(app)} (${app.id}) in this repository are lost for ever. Go on?`;
    const refused = await confirm(session, { question, yes: options.yes === true });
    if (refused !== undefined) return refused;
    await parts.repository.destroyApp(app.id);
    await session.output.done(
      { app: app.id },
      `Destroyed the key of ${fullName(app)}: its backups can't be read any more.${lockedText(parts.repository)}`,
    );
    return undefined;
  } catch (error) {
    throw storeFailure(error);
  } finally {
    await apps.close();
  }
}

/** Behind the delete marker of a locked object its bytes stay, for who knows how to ask. */
function lockedText({ lockDays }: Repository): string {
  if (lockDays === undefined) return "";
  return ` It is hidden now, and gone when its lock has ended, in ${Math.min(lockDays, KEY_LOCK_DAYS_MAX)} days at most, and the bucket has dropped the old version.`;
}

/** Shipping on under a key that nobody can read any more would be for nothing, and look like a backup. Throws FAILED_PRECONDITION when the service does. */
async function refuseShipped(session: Session, appId: string, repositoryId: string): Promise<void> {
  try {
    const { backups } = await session.api();
    const names = new Set<string>();
    for await (const page of backups.listRepositories(session.callOptions))
      for (const { id, name } of page) if (id === repositoryId) names.add(name);
    for await (const page of backups.backupStatus({}, session.callOptions)) {
      const shipped = page.find(({ app, repository }) => app.id === appId && names.has(repository));
      if (shipped === undefined) continue;
      const message = `the service backs ${fullName(shipped.app)} up to it: first \`tidemark backup disable ${fullName(shipped.app)}\``;
      throw new TidemarkError("FAILED_PRECONDITION", message);
    }
  } catch (error) {
    if (!(error instanceof TidemarkError && error.code === "UNAVAILABLE")) throw error;
  }
}
