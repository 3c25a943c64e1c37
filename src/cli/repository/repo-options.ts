/** What the verbs of `repo` have in common. */
export type RepoOptions = {
  /** A name that the data folder knows, or an address. */
  readonly repo?: string;
  readonly keyFile?: string;
  readonly endpoint?: string;
  readonly region?: string;
  /** A time: the versioned bucket as it was then. */
  readonly atVersion?: string;
};
