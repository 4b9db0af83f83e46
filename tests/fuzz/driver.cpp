// Runs a fuzz target without libFuzzer: each file of the corpus directory, then mutations of them and random bytes. The
// same inputs on every run.
//     fuzz_<name> CORPUS_DIRECTORY [ROUNDS]
//     fuzz_<name> FILE                        one input, to reproduce a crash
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Input = std::vector<std::uint8_t>;

Input read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

class Mutator {
 public:
  Input next(const std::vector<Input>& corpus) {
    if (corpus.empty() || below(8) == 0) return random_bytes(below(256));
    Input input = corpus[below(corpus.size())];
    for (std::size_t changes = 1 + below(4); changes > 0; --changes) change(input, corpus);
    return input;
  }

 private:
  std::size_t below(std::size_t limit) { return random_() % limit; }

  Input random_bytes(std::size_t length) {
    Input input(length);
    for (auto& byte : input) byte = static_cast<std::uint8_t>(random_());
    return input;
  }

  void change(Input& input, const std::vector<Input>& corpus) {
    if (input.empty()) return;
    const std::size_t at = below(input.size());
    const auto position = input.begin() + static_cast<std::ptrdiff_t>(at);
    switch (below(6)) {
      case 0:
        input[at] ^= static_cast<std::uint8_t>(1U << below(8));
        break;
      case 1:
        input[at] = static_cast<std::uint8_t>(random_());
        break;
      case 2:
        input[at] = below(2) != 0 ? 0xFF : 0;
        break;
      case 3:
        input.erase(position, input.end());
        break;
      case 4: {
        const Input inserted = random_bytes(1 + below(16));
        input.insert(position, inserted.begin(), inserted.end());
        break;
      }
      default: {
        const Input& other = corpus[below(corpus.size())];
        input.erase(position, input.end());
        if (at < other.size()) input.insert(input.end(), other.begin() + static_cast<std::ptrdiff_t>(at), other.end());
      }
    }
  }

  std::mt19937_64 random_{0x646F7070656CU};
};

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.empty() || !std::filesystem::exists(arguments[0])) {
    std::fprintf(stderr, "usage: %s CORPUS_DIRECTORY [ROUNDS] | FILE\n", argv[0]);
    return 2;
  }
  const std::filesystem::path path(arguments[0]);
  if (!std::filesystem::is_directory(path)) {
    const Input input = read(path);
    return LLVMFuzzerTestOneInput(input.data(), input.size());
  }

  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(path)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::vector<Input> corpus;
  corpus.reserve(files.size());
  for (const auto& file : files) corpus.push_back(read(file));
  for (const Input& input : corpus) LLVMFuzzerTestOneInput(input.data(), input.size());

  const unsigned long rounds = arguments.size() > 1 ? std::strtoul(arguments[1].c_str(), nullptr, 10) : 5000;
  Mutator mutator;
  for (unsigned long i = 0; i < rounds; ++i) {
    const Input input = mutator.next(corpus);
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::printf("%zu files of the corpus and %lu mutations: no crash\n", corpus.size(), rounds);
  return 0;
}
