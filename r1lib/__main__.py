import sys
from pathlib import Path
from r1lib.training.pretrain import pretrain
if __name__=="__main__":
    a=dict(zip(sys.argv[2::2],sys.argv[3::2]))
    pretrain(a.get("--sizes","0.4m,1m,3m").split(","),Path(a["--out"]),tokens=int(a["--tokens"]),device=a.get("--device","cuda"),rows_per_step=int(a.get("--rows","192")),workers=int(a["--workers"]) if "--workers" in a else None,command="python -m r1lib "+" ".join(sys.argv[1:]))
