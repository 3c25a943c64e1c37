/** The layers of src/, lowest first: a folder imports from groups before its own, and from itself; never from another folder of its group. README has the same table. */
export const LAYERS: readonly (readonly string[])[] = [
  ["base"],
  ["domain"],
  ["kv", "blob", "rpc"],
  ["journal"],
  ["meta", "repository"],
  ["gateway", "backup"],
  ["csi", "docker", "web"],
  ["cli"],
];

/** What is wrong with `importer` (a path below src/) importing `imported`, or undefined. */
export function layerFault(importer: string, imported: string): string | undefined {
  const from = folderOf(importer);
  const to = folderOf(imported);
  if (from === to) return undefined;
  if (imported.startsWith("test/")) return `${importer} imports ${imported}: src never imports from test`;
  const fromLevel = levelOf(from);
  const toLevel = levelOf(to);
  if (fromLevel === -1) return `${importer}: ${from} is not in the table of layers`;
  if (toLevel === -1) return `${importer}: ${to} is not in the table of layers`;
  return toLevel < fromLevel ? undefined : `${importer} imports ${imported}: ${to} is not below ${from}`;
}

function folderOf(path: string): string {
  return path.split("/")[1] ?? "";
}

function levelOf(folder: string): number {
  return LAYERS.findIndex((group) => group.includes(folder));
}
