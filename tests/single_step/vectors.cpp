#include "single_step/vectors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>

#include "base/bits.h"

namespace doppel::single_step {

namespace {

using Bytes = std::span<const std::uint8_t>;

/// Those of REGS and of JSON's 16-bit files, in REGS's order.
constexpr std::array kShortOrder{kEax, kEbx, kEcx, kEdx, kCs, kSs, kDs, kEs, kEsp, kEbp, kEsi, kEdi, kEip, kEflags};

struct Named {
  const char* name;
  Register reg;
};
constexpr std::array kNames{
    Named{"ax", kEax},        Named{"bx", kEbx},  Named{"cx", kEcx},  Named{"dx", kEdx},  Named{"si", kEsi},
    Named{"di", kEdi},        Named{"bp", kEbp},  Named{"sp", kEsp},  Named{"ip", kEip},  Named{"flags", kEflags},
    Named{"cs", kCs},         Named{"ds", kDs},   Named{"es", kEs},   Named{"fs", kFs},   Named{"gs", kGs},
    Named{"ss", kSs},         Named{"eax", kEax}, Named{"ebx", kEbx}, Named{"ecx", kEcx}, Named{"edx", kEdx},
    Named{"esi", kEsi},       Named{"edi", kEdi}, Named{"ebp", kEbp}, Named{"esp", kEsp}, Named{"eip", kEip},
    Named{"eflags", kEflags}, Named{"cr0", kCr0}, Named{"cr3", kCr3}, Named{"dr6", kDr6}, Named{"dr7", kDr7},
};

struct Malformed {};

/// Little-endian fields, one after the other.
class Reader {
 public:
  explicit Reader(Bytes bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }
  Bytes take(std::size_t size) {
    if (size > bytes_.size()) throw Malformed{};
    const Bytes taken = bytes_.first(size);
    bytes_ = bytes_.subspan(size);
    return taken;
  }
  std::uint32_t u32() { return load_le<std::uint32_t>(take(4).data()); }
  std::uint32_t u16() { return load_le<std::uint16_t>(take(2).data()); }
  std::string text(std::size_t size) {
    const Bytes taken = take(size);
    return {taken.begin(), taken.end()};
  }
  /// Calls `chunk(type, payload)` for each of the chunks that the rest consists of.
  template <class Chunk>
  void chunks(Chunk chunk) {
    while (!empty()) {
      const std::string type = text(4);
      const std::uint32_t size = u32();
      chunk(std::string_view(type), take(size));
    }
  }

 private:
  Bytes bytes_;
};

void read_registers(std::string_view type, Bytes payload, Registers& to) {
  Reader reader(payload);
  const bool wide = type == "RG32" || type == "RM32";
  const std::uint32_t present = wide ? reader.u32() : reader.u16();
  for (unsigned i = 0; i < (wide ? unsigned{kRegisters} : kShortOrder.size()); ++i)
    if ((present >> i & 1) != 0) to.set(wide ? i : unsigned{kShortOrder[i]}, wide ? reader.u32() : reader.u16());
}

void read_snapshot(Bytes payload, Snapshot& to, Registers& masks) {
  Reader(payload).chunks([&](std::string_view type, Bytes chunk) {
    if (type == "REGS" || type == "RG32") read_registers(type, chunk, to.registers);
    if (type == "RMSK" || type == "RM32") read_registers(type, chunk, masks);
    if (type != "RAM ") return;
    Reader reader(chunk);
    for (std::uint32_t count = reader.u32(); count > 0; --count) {
      const std::uint32_t address = reader.u32();
      to.ram.emplace_back(address, reader.take(1)[0]);
    }
  });
}

Vector read_test(Bytes payload, const Registers& masks) {
  Reader reader(payload);
  Vector test;
  test.index = reader.u32();
  test.masks = masks;
  reader.chunks([&test](std::string_view type, Bytes chunk) {
    Reader fields(chunk);
    if (type == "NAME") test.name = fields.text(fields.u32());
    if (type == "INIT") read_snapshot(chunk, test.initial, test.masks);
    if (type == "FINA") read_snapshot(chunk, test.final, test.masks);
    if (type == "BYTS") {
      const Bytes bytes = fields.take(fields.u32());
      test.bytes.assign(bytes.begin(), bytes.end());
    }
    if (type == "EXCP") {
      test.exception = fields.take(1)[0];
      test.pushed_flags = fields.u32();
    }
    if (type == "HASH")
      for (const std::uint8_t byte : chunk) test.hash += fmt::format("{:02x}", byte);
  });
  return test;
}

VectorFile read_moo(Bytes bytes) {
  VectorFile file;
  Registers masks;
  Reader(bytes).chunks([&](std::string_view type, Bytes chunk) {
    if (type == "MOO ") {
      Reader header(chunk);
      constexpr std::size_t kVersionAndCount = 8;
      header.take(kVersionAndCount);
      file.cpu = header.text(4);
      while (!file.cpu.empty() && file.cpu.back() == ' ') file.cpu.pop_back();
    }
    if (type == "RMSK" || type == "RM32") read_registers(type, chunk, masks);
    if (type == "TEST") file.vectors.push_back(read_test(chunk, masks));
  });
  return file;
}

void read_snapshot(const nlohmann::json& json, Snapshot& to) {
  for (const auto& [name, value] : json.at("regs").items())
    for (const Named& named : kNames)
      if (name == named.name) to.registers.set(named.reg, value.get<std::uint32_t>());
  for (const auto& entry : json.at("ram"))
    to.ram.emplace_back(entry.at(0).get<std::uint32_t>(), entry.at(1).get<std::uint8_t>());
}

VectorFile read_json(const std::string& text) {
  VectorFile file;
  for (const nlohmann::json& json : nlohmann::json::parse(text)) {
    Vector test;
    test.index = json.value("idx", static_cast<std::uint32_t>(file.vectors.size()));
    test.name = json.value("name", "");
    test.hash = json.value("hash", "");
    test.bytes = json.at("bytes").get<std::vector<std::uint8_t>>();
    read_snapshot(json.at("initial"), test.initial);
    read_snapshot(json.at("final"), test.final);
    if (json.contains("exception")) {
      test.exception = json.at("exception").at("number").get<std::uint8_t>();
      test.pushed_flags = json.at("exception").at("flag_address").get<std::uint32_t>();
    }
    file.vectors.push_back(std::move(test));
  }
  return file;
}

Result<std::string> contents(const std::string& path) {
  struct Close {
    bool pipe;
    void operator()(std::FILE* file) const { pipe ? pclose(file) : std::fclose(file); }
  };
  const bool zipped = path.ends_with(".gz");
  if (path.find('\'') != std::string::npos) return Error{path + ": a path with a quote"};
  std::FILE* opened = zipped ? popen(("gzip -dc '" + path + "'").c_str(), "r") : std::fopen(path.c_str(), "rb");
  const std::unique_ptr<std::FILE, Close> file(opened, Close{zipped});
  if (file == nullptr) return Error{path + ": cannot be read"};
  std::string text;
  std::array<char, 65536> buffer;
  for (std::size_t size; (size = std::fread(buffer.data(), 1, buffer.size(), file.get())) > 0;)
    text.append(buffer.data(), size);
  return text;
}

}  // namespace

Result<VectorFile> read_vectors(const std::string& path) {
  Result<std::string> text = contents(path);
  if (!text) return text.error();
  try {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(text->data());
    return text->starts_with("MOO ") ? read_moo({bytes, text->size()}) : read_json(*text);
  } catch (const Malformed&) {
    return Error{path + ": ends in the middle of a chunk"};
  } catch (const nlohmann::json::exception& error) {
    return Error{path + ": " + error.what()};
  }
}

}  // namespace doppel::single_step
