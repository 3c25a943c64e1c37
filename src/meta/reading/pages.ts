import { PAGE_BYTES_MAX, PAGE_ITEMS_MAX } from "../../domain/admin-call.ts";

/**
 * Regroups batches into pages within the API's limits. An empty batch means that the source will wait: what is there goes out.
 * Pulls no further than the page it is asked for.
 */
export async function* paged<T>(
  batches: AsyncIterable<readonly T[]>,
  bytesOf: (item: T) => number,
): AsyncGenerator<readonly T[]> {
  let page: T[] = [];
  let bytes = 0;
  for await (const batch of batches) {
    for (const item of batch) {
      const size = bytesOf(item);
      if (page.length > 0 && (page.length === PAGE_ITEMS_MAX || bytes + size > PAGE_BYTES_MAX)) {
        yield page;
        page = [];
        bytes = 0;
      }
      page.push(item);
      bytes += size;
    }
    if (batch.length > 0 || page.length === 0) continue;
    yield page;
    page = [];
    bytes = 0;
  }
  if (page.length > 0) yield page;
}
