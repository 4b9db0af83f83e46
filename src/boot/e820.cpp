#include "boot/e820.h"

#include "boot/platform_layout.h"

namespace doppel::boot {
namespace {

constexpr E820Entry kEcam{layout::kPciEcamBase, layout::kPciEcamBytes, E820Type::Reserved};

}  // namespace

std::vector<E820Entry> build_e820(const memory::GuestMemory& memory) {
  std::vector<E820Entry> map{
      {0, layout::kEbda, E820Type::Ram},
      {layout::kEbda, layout::kEbdaEnd - layout::kEbda, E820Type::Reserved},
      {layout::kBiosArea, layout::kBiosAreaEnd - layout::kBiosArea, E820Type::Reserved},
  };
  for (const memory::RamRegion& region : memory.regions()) {
    const std::uint64_t end = region.start + region.size;
    const std::uint64_t start = region.start < layout::kHighMemory ? layout::kHighMemory : region.start;
    if (region.start >= memory::kPciHoleEnd) map.push_back(kEcam);
    if (start < end) map.push_back({start, end - start, E820Type::Ram});
  }
  if (map.back().address < kEcam.address) map.push_back(kEcam);
  return map;
}

}  // namespace doppel::boot
