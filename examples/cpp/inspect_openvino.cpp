// Inspects images with an exported detector, by OpenVINO.
//
//     inspect_openvino detector.onnx image.ppm [more images]
//
// Prints of each image its name, score, label (1 good, -1 anomalous) and number of anomalous pixels.
#include <algorithm>
#include <cstdio>
#include <exception>

#include <openvino/openvino.hpp>

#include "pnm.h"

int main(int argc, char** argv) try {
    if (argc < 3) {
        std::fprintf(stderr, "usage: %s detector.onnx image.ppm [more images]\n", argv[0]);
        return 2;
    }
    ov::Core core;
    // Without it, some processors compute in 16 bits, and scores differ.
    auto request = core.compile_model(argv[1], "CPU", ov::hint::inference_precision(ov::element::f32))
                       .create_infer_request();
    for (int i = 2; i < argc; ++i) {
        Picture picture = read_pnm(argv[i]);
        ov::Shape shape{1, size_t(picture.height), size_t(picture.width), size_t(picture.channels)};
        request.set_tensor("images", ov::Tensor(ov::element::u8, shape, picture.pixels.data()));
        request.infer();
        ov::Tensor mask = request.get_tensor("mask");
        const char* marks = static_cast<const char*>(mask.data());
        long n_marked = mask.get_size() - std::count(marks, marks + mask.get_size(), 0);
        std::printf("%s\t%.9g\t%d\t%ld\n", argv[i], request.get_tensor("score").data<double>()[0],
                    static_cast<int>(request.get_tensor("label").data<int64_t>()[0]), n_marked);
    }
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
