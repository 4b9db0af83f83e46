#include "storage/operations/chain_map.h"

#include <algorithm>
#include <memory>

#include "base/system_error.h"

namespace doppel::storage {

Result<ChainExtent> chain_extent(Image& top, std::uint64_t offset, std::uint64_t length) {
  ChainExtent found;
  found.start = offset;
  Image* image = &top;
  std::shared_ptr<Image> kept;
  for (;;) {
    Extent extent;
    if (const int error = image->extent(offset, length, extent); error != 0) {
      return system_error("cannot read the tables of " + image->name(), error);
    }
    length = extent.length;
    found.length = length;
    if (extent.kind != Extent::Kind::Unallocated) {
      found.present = true;
      found.zero = extent.kind == Extent::Kind::Zero;
      found.data = !found.zero;
      found.compressed = extent.kind == Extent::Kind::Compressed;
      if (extent.kind == Extent::Kind::Data || (found.zero && extent.allocated)) {
        found.file = extent.file;
        found.file_offset = extent.file_offset;
      }
      return found;
    }
    std::shared_ptr<Image> backing = image->backing();
    if (!backing) break;
    if (offset >= backing->size()) break;
    kept = std::move(backing);
    image = kept.get();
    length = std::min(length, image->size() - offset);
    ++found.depth;
  }
  found.zero = true;
  return found;
}

Result<void> for_each_extent(Image& top, const std::function<Result<void>(const ChainExtent&)>& visit) {
  const std::uint64_t size = top.size();
  ChainExtent last;
  for (std::uint64_t at = 0; at < size;) {
    auto next = chain_extent(top, at, size - at);
    if (!next) return next.error();
    at += next->length;
    const bool alike = last.length != 0 && last.depth == next->depth && last.present == next->present &&
                       last.zero == next->zero && last.data == next->data && last.compressed == next->compressed &&
                       last.file == next->file &&
                       (next->file == nullptr || last.file_offset + last.length == next->file_offset);
    if (alike) {
      last.length += next->length;
      continue;
    }
    if (last.length != 0) {
      if (auto visited = visit(last); !visited) return visited;
    }
    last = *next;
  }
  return last.length != 0 ? visit(last) : Result<void>{};
}

}  // namespace doppel::storage
