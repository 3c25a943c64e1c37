import type { Measured } from "./measure.ts";

/** What is backed up: a tree of many files and one big file, each into a repository of its own. */
export type Subject = "tree" | "big";

/** A backup program, used as a person would. Every call begins with nothing in memory: the caller drops the caches, the tool restarts what it keeps running. */
export interface BackupTool {
  readonly name: string;
  /** Its version, or undefined when it is not on this machine. */
  version(): Promise<string | undefined>;
  /** Makes repositories, and the place for the files. */
  prepare(): Promise<void>;
  /** The folder whose files the bench writes and changes. */
  root(subject: Subject): string;
  /** What goes on in the background after a backup has been done. Not measured. */
  settle(): Promise<void>;
  /** Ends and starts again what it keeps running. */
  restart(): Promise<void>;
  /** The shortest run of the program: its start. */
  startUp(): Promise<Measured>;
  /** Until everything is safe in the repository. */
  backup(subject: Subject): Promise<Measured>;
  restoreFile(path: string, to: string): Promise<Measured>;
  restoreAll(to: string): Promise<Measured>;
  repositoryBytes(subject: Subject): Promise<number>;
  close(): Promise<void>;
}
