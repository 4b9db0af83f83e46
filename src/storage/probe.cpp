#include "storage/probe.h"

#include <fmt/format.h>

#include <array>
#include <cstring>

namespace doppel::storage {
namespace {

using namespace std::string_view_literals;

struct Magic {
  std::string_view bytes;
  std::string_view name;
  ImageFormat format;
};

constexpr std::array kMagics{
    Magic{"QFI\xfb\0\0\0\x02"sv, "qcow2", ImageFormat::Qcow2},
    Magic{"QFI\xfb\0\0\0\x03"sv, "qcow2", ImageFormat::Qcow2},
    Magic{"QFI\xfb"sv, "qcow of another version", ImageFormat::Other},
    Magic{"QED\0"sv, "qed", ImageFormat::Other},
    Magic{"KDMV"sv, "vmdk", ImageFormat::Other},
    Magic{"COWD"sv, "vmdk", ImageFormat::Other},
    Magic{"# Disk DescriptorFile"sv, "vmdk", ImageFormat::Other},
    Magic{"vhdxfile"sv, "vhdx", ImageFormat::Other},
    Magic{"conectix"sv, "vpc", ImageFormat::Other},
    Magic{"LUKS\xba\xbe"sv, "luks", ImageFormat::Other},
};

const Magic* find(std::span<const std::byte> header) {
  for (const Magic& magic : kMagics) {
    if (header.size() >= magic.bytes.size() &&
        std::memcmp(header.data(), magic.bytes.data(), magic.bytes.size()) == 0) {
      return &magic;
    }
  }
  return nullptr;
}

}  // namespace

ImageFormat probe_format(std::span<const std::byte> header) {
  const Magic* const magic = find(header);
  return magic != nullptr ? magic->format : ImageFormat::Raw;
}

std::string_view probe_format_name(std::span<const std::byte> header) {
  const Magic* const magic = find(header);
  return magic != nullptr ? magic->name : "raw";
}

Result<ImageFormat> parse_format(std::string_view name) {
  if (name == "raw") return ImageFormat::Raw;
  if (name == "qcow2") return ImageFormat::Qcow2;
  return Error{fmt::format("unknown image format {}; there are raw and qcow2", name)};
}

}  // namespace doppel::storage
