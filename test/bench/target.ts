/** The port of everything that can be measured: a directory, a FUSE server, a Tidemark share. */

export type TargetCapabilities = {
  /** stop and start forget everything that is not on disk, so "cold" means something more than kernel-cold. */
  restart: boolean;
  /** openView works. */
  view: boolean;
};

/** A read-only tree that shows the target as it was when it was opened. */
export type OpenView = { dir: string; close(): Promise<void> };

export interface BenchTarget {
  /** Short and unique: a column of the table. */
  readonly name: string;
  /** One line for the head of the report: what exactly is measured. */
  readonly description: string;
  readonly capabilities: TargetCapabilities;
  /** Where rows write. It exists between start and stop, is writable, belongs to the bench, and stays the same path. */
  readonly dir: string;
  /** The mount point, when the target is a mount of its own: its requests can be counted. */
  readonly mountpoint: string | undefined;

  /** Why this target can't be measured here, or undefined. Called once, before start. */
  unavailable(): Promise<string | undefined>;
  /** Brings the target up, with the files it had when it was stopped. Throws with the end of its log when it fails. */
  start(): Promise<void>;
  /** Takes it down; files stay. Works after a failed start and when already stopped; must also work after Ctrl-C. */
  stop(): Promise<void>;
  /** The processes that serve it, all of them; none for a kernel file system. */
  processIds(): number[];
  /** Opens a view of the present state. Throws when the capability is missing. */
  openView(): Promise<OpenView>;
}
