// Inspects images with an exported detector, by ONNX Runtime.
//
//     inspect_onnxruntime detector.onnx image.ppm [more images]
//
// Prints of each image its name, score, label (1 good, -1 anomalous) and number of anomalous pixels.
#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>

#include <onnxruntime_cxx_api.h>

#include "pnm.h"

int main(int argc, char** argv) try {
    if (argc < 3) {
        std::fprintf(stderr, "usage: %s detector.onnx image.ppm [more images]\n", argv[0]);
        return 2;
    }
    Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "inspect");
    Ort::Session session(env, argv[1], Ort::SessionOptions{});
    const char* inputs[] = {"images"};
    const char* outputs[] = {"score", "label", "mask"};
    auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    for (int i = 2; i < argc; ++i) {
        Picture picture = read_pnm(argv[i]);
        std::array<int64_t, 4> shape{1, picture.height, picture.width, picture.channels};
        auto images = Ort::Value::CreateTensor<uint8_t>(
            memory, picture.pixels.data(), picture.pixels.size(), shape.data(), shape.size());
        auto found = session.Run(Ort::RunOptions{}, inputs, &images, 1, outputs, 3);
        const bool* mask = found[2].GetTensorData<bool>();
        long n_marked = std::count(mask, mask + picture.height * picture.width, true);
        std::printf("%s\t%.9g\t%d\t%ld\n", argv[i], found[0].GetTensorData<double>()[0],
                    static_cast<int>(found[1].GetTensorData<int64_t>()[0]), n_marked);
    }
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
