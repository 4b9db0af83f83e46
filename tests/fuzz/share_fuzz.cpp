#include <fcntl.h>
#include <linux/fuse.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/temporary_directory.h"
#include "fuzz/limits.h"
#include "share/file_server.h"

/// Whatever requests a guest makes up: the replies fit, and nothing outside of the directory changes. The input is a
/// row of requests: length (2 bytes), opcode, node, then the bytes after the header.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace doppel;
  fuzz::limit_files();
  namespace fs = std::filesystem;
  static const test::TemporaryDirectory directory;
  static const std::string outside = directory.path() + "/outside";
  const std::string shared = directory.path() + "/shared";
  fs::create_directories(shared + "/d/e");
  std::ofstream(outside) << "outside";
  std::ofstream(shared + "/f") << "file";
  fs::create_symlink("../outside", shared + "/l");
  {
    share::FileServer server({UniqueFd(::open(shared.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)), false});
    std::vector<std::byte> request, reply;
    std::span<const std::uint8_t> rest(data, size);
    while (rest.size() >= 4) {
      fuse_in_header header{};
      const std::size_t length = std::min<std::size_t>(rest[0] | (rest[1] & 3) << 8, rest.size() - 4);
      header.opcode = rest[2];
      header.nodeid = rest[3];
      header.unique = 1;
      request.resize(sizeof header + length);
      std::memcpy(request.data(), &header, sizeof header);
      std::memcpy(request.data() + sizeof header, rest.data() + 4, length);
      const std::size_t room = (rest[1] & 0x80) != 0 ? rest[1] : 8192;
      server.handle(request, room, reply);
      if (reply.size() > room) std::abort();
      rest = rest.subspan(4 + length);
    }
  }
  std::ifstream file(outside);
  std::string text;
  std::getline(file, text);
  if (text != "outside") std::abort();
  fuzz::empty_directory(shared);
  return 0;
}
