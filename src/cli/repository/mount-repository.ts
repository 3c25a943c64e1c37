import { closeSync } from "node:fs";
import { TidemarkError } from "../../domain/errors.ts";
import type { Lsn, MountId } from "../../domain/ids.ts";
import { formatAppRef } from "../../domain/share-path.ts";
import { mountFuse, requireRoot, unmountFuse } from "../../gateway/fuse/mount.ts";
import { FuseLoop } from "../../gateway/fuse/poll-loop.ts";
import { Appends } from "../../gateway/vfs/appends.ts";
import { vfsOperations } from "../../gateway/vfs/vfs.ts";
import type { OpenApp } from "../../meta/open-app.ts";
import { findShare } from "../../meta/reading/find-share.ts";
import { resolveMoment } from "../../meta/reading/time.ts";
import type { ShareRow } from "../../meta/shares.ts";
import { parseShare } from "../commands/arguments.ts";
import { AMBIGUOUS_NOTE, describeMoment } from "../commands/mount-commands.ts";
import { supplementaryGroups } from "../service/process-groups.ts";
import type { Session } from "../session.ts";
import { openRepositoryApps } from "./connect.ts";
import { NoteLog } from "./note-log.ts";
import type { RepoOptions } from "./repo-options.ts";

/** The only mount of this process. It changes nothing, so the number is in no record. */
const MOUNT = 1 as MountId;

type Task = RepoOptions & { readonly share: string; readonly directory: string; readonly at?: string };

/** `repo mount`: a share as it was, out of a repository, served by this process until it is interrupted or the directory is unmounted. */
export async function mountRepository(session: Session, task: Task): Promise<undefined> {
  const { output, environment } = session;
  const { app: ref, share: shareRef } = parseShare(task.share);
  // Before a passphrase is asked for.
  requireRoot(session.machinePath(task.directory), environment.process.uid);
  const moment = session.moment(task.at);
  const { apps } = await openRepositoryApps(session, task);
  try {
    const app = await apps.find(ref);
    const at = await resolveMoment(app.core, moment);
    if (at.ambiguous) output.note(AMBIGUOUS_NOTE);
    const share = findShare(app.core, shareRef);
    const loop = new FuseLoop({ clock: environment.clock });
    const mounted = await mountFuse(
      {
        target: session.machinePath(task.directory),
        source: `tidemark-repo:${formatAppRef(ref)}/${share.name}`,
        readOnly: true,
        suid: false,
        dev: false,
        locks: "kernel",
      },
      { io: loop.io, nonBlocking: loop.nonBlocking },
    );
    const log = new NoteLog(output);
    const ended = serve(loop, { fd: mounted.fd, negotiated: mounted.negotiated }, { app, share, at: at.lsn, log });
    const interrupted = new Promise<void>((resolve) => {
      environment.signal.addEventListener("abort", () => resolve());
      if (environment.signal.aborted) resolve();
    });
    const sentence = `Mounted ${task.share} at ${mounted.target} as of ${describeMoment(session, at)}, read-only, until Ctrl-C or: umount ${mounted.target}`;
    await output.done({ target: mounted.target, at }, sentence);
    await Promise.race([ended, interrupted]);
    await unmountFuse(mounted.target, { lazy: true });
    await ended;
    closeSync(mounted.fd);
    return undefined;
  } finally {
    await apps.close();
  }
}

type View = { readonly app: OpenApp; readonly share: ShareRow; readonly at: Lsn; readonly log: NoteLog };

/** Serves a view; resolves when it has ended and its descriptor is free. */
function serve(
  loop: FuseLoop,
  mounted: Pick<Parameters<FuseLoop["add"]>[0], "fd" | "negotiated">,
  { app, share, at, log }: View,
): Promise<void> {
  const release = app.core.moments.hold(at);
  return new Promise<void>((resolve) => {
    const connection = loop.add({
      ...mounted,
      operations: vfsOperations({
        api: app.engine,
        mountId: MOUNT,
        root: share.root,
        at,
        readOnly: true,
        views: () => "off",
        asksOpens: false,
        groupsOf: supplementaryGroups,
        appends: new Appends({ resumed: false }),
        slots: { slotOf: refuse, lsnOf: () => undefined },
        moments: { find: () => undefined, snapshotNames: () => [] },
      }),
      onEnd: () => {
        release();
        void loop.remove(connection).then(resolve);
      },
      onProblem: (problem) => log.error("a request of the kernel failed", { problem: problem.kind }),
    });
  });
}

function refuse(): never {
  throw new TidemarkError("UNSUPPORTED", "a view has no views of its own");
}
