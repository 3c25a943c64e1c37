/** A repository to clone, the same on every run. */

/** Bytes for `git fast-import`: one commit on main with `fileCount` text files of 1 to 8 KiB. */
export function gitFastImportStream(options: { fileCount: number; filesPerDir: number }): Buffer {
  const parts: string[] = [];
  const random = lehmer(1);
  const message = "Everything\n";
  parts.push("commit refs/heads/main\ncommitter Bench <bench@localhost> 1700000000 +0000\n");
  parts.push(`data ${message.length}\n${message}`);
  for (let index = 0; index < options.fileCount; index++) {
    const content = words(random, 1024 + (random() % 7168));
    const path = `dir${Math.floor(index / options.filesPerDir)}/file${index}.txt`;
    parts.push(`M 100644 inline ${path}\ndata ${content.length}\n${content}\n`);
  }
  return Buffer.from(parts.join(""), "latin1");
}

/** Lines of pseudo-words: compresses about as well as source code does. */
function words(random: () => number, length: number): string {
  let text = "";
  while (text.length < length) text += random().toString(36).slice(0, 5) + (random() % 9 === 0 ? "\n" : " ");
  return text.slice(0, length);
}

/** The minimal standard generator of Park and Miller (1988). */
function lehmer(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48271) % 2147483647;
    return state;
  };
}
