#include <fcntl.h>

#include <fstream>

#include "base/temporary_directory.h"
#include "devices/virtio/file_system.h"
#include "fuzz/limits.h"
#include "fuzz/virtio_fuzz.h"

/// Drivers of a shared directory; what the messages say is share_fuzz.cpp's.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace doppel;
  fuzz::limit_files();
  static const test::TemporaryDirectory directory;
  std::ofstream(directory / "f") << "file";
  auto& memory = fuzz::quiet_memory();
  UniqueFd root(::open(directory.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  devices::virtio::FileSystem device("fuzz", "tag", {std::move(root), size % 2 == 0}, memory);
  fuzz::VirtioFuzz(device, memory, 2, [](fuzz::Input&) {}).run(fuzz::Input({data, size}));
  fuzz::empty_directory(directory.path());
  return 0;
}
