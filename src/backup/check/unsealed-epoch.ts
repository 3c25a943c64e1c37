import type { AppRepository } from "../../repository/app-repository.ts";
import { epochText, parseEpoch } from "../../repository/names.ts";

/**
 * What is to be said of the newest epoch when it has no seal: no object tells whether one was ever there, and without it seals that it had overruled count again. undefined: it has
 * one, or a base. Costs two listings. Throws BlobError.
 */
export async function unsealedEpoch(app: AppRepository): Promise<string | undefined> {
  const { objects } = app;
  const folder = objects.name("epochs");
  let newest = 0;
  for await (const page of objects.list("epochs"))
    for (const { name } of page) newest = Math.max(newest, parseEpoch(name.slice(folder.length)) ?? 0);
  if (newest === 0) return undefined;
  for await (const page of objects.list("seals", { after: epochText(newest) })) if (page.length > 0) return undefined;
  if ((await app.checkpoints()).some(({ epoch }) => epoch >= newest)) return undefined;
  return `${folder}${epochText(newest)}: epoch ${newest} was begun and has no seal: nothing was shipped in it yet, or its seals are lost`;
}
